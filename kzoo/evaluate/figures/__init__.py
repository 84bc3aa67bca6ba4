"""Pictures of a run, as PNG files: what the pretext shows, how the loss fell, where the embedding puts the examples.

Functions of arrays and a path; nothing here knows methods, recipes or runs. Drawn on the Agg canvas, so no display is
needed and no other figure of the program is touched. Colour-blind readers can tell the colours apart (Okabe, Ito 2008).
Matplotlib and scikit-learn are imported when a figure is first asked for.
"""

from typing import TYPE_CHECKING

from kzoo.system.lazy import names_of

if TYPE_CHECKING:
    from kzoo.evaluate.figures.curves import loss_curve, runs_beside
    from kzoo.evaluate.figures.maps import MAP_LEAST, MAP_POINTS, embedding_map
    from kzoo.evaluate.figures.pretext import answers, pictures_of, views
    from kzoo.evaluate.figures.similar import contact_sheet, neighbours

__all__ = [
    "MAP_LEAST",
    "MAP_POINTS",
    "answers",
    "contact_sheet",
    "embedding_map",
    "loss_curve",
    "neighbours",
    "pictures_of",
    "runs_beside",
    "views",
]

__getattr__ = names_of(
    __name__,
    {
        "kzoo.evaluate.figures.curves": ["loss_curve", "runs_beside"],
        "kzoo.evaluate.figures.maps": ["MAP_LEAST", "MAP_POINTS", "embedding_map"],
        "kzoo.evaluate.figures.pretext": ["answers", "pictures_of", "views"],
        "kzoo.evaluate.figures.similar": ["contact_sheet", "neighbours"],
    },
)
