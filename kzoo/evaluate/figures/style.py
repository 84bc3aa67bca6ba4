"""How all figures look, and how they reach the disk."""

import re
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from kzoo.system import fonts
from kzoo.system.files import replacing

INK = "#222222"
QUIET = "#6b6b6b"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D1F", "#F0E442")
MARKERS = ("o", "^", "s")  # with the colours, 24 classes that differ, and a legend that still fits
SAME, OTHER = "#009E73", "#D55E00"
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
STYLE: dict[Any, Any] = {
    "font.family": fonts.HOUSE,
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "savefig.dpi": 130,
}


def styled(draw: Callable[..., Figure]) -> Callable[..., None]:
    """Draw in the house style and put the PNG file at the first argument, whole or not at all."""

    @wraps(draw)
    def save(path: Path, *args: Any, **kwargs: Any) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # a user's own style may ask for LaTeX, or draw on black
            matplotlib.rcParams.update(STYLE)
            figure = draw(path, *args, **kwargs)
            FigureCanvasAgg(figure)
            texts = figure.findobj(Text)
            families = fonts.families(text.get_text() for text in texts)
            for text in texts:
                text.set_fontfamily(families)
            with replacing(path) as scratch:
                figure.savefig(scratch, format="png")

    return save


def put_heading(figure: Figure, title: str, note: str = "") -> None:
    height = figure.get_size_inches()[1]
    figure.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", fontsize=11, fontweight="bold")
    figure.text(0.5, 1 - 0.30 / height, note, ha="center", va="top", fontsize=8, color=QUIET)


def put_text(figure: Figure, x: float, y: float, text: str, *, size: float = 8, **how: Any) -> None:
    """A text at a place in inches."""
    figure.text(x, y, text, fontsize=size, transform=figure.dpi_scale_trans, **how)


def fitting(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def class_name(label: int, class_names: Sequence[str]) -> str:
    """The class's name; its number where it has none, or none that a font can write; "" where the class is unknown."""
    if label < 0:
        return ""
    named = label < len(class_names) and fonts.writable(str(class_names[label]))
    return str(class_names[label]) if named else f"class {label}"


def worded(name: str) -> str:
    """The name of one of several pictures in plain words: "view_0" is the "first view", "tiles_1" the "second tile"."""
    text = name.replace("_", " ")
    found = re.fullmatch(r"(.+?) (\d+)(| .+)", text)
    if found is None:
        return text
    what, number, more = re.sub(r"((?<=ch|sh|ss)e|(?<=[^s]))s$", "", found[1]), int(found[2]), found[3]
    return f"{_ORDINALS[number]} {what}{more}" if number < len(_ORDINALS) else f"{what} {number + 1}{more}"
