"""What the pretext shows the model, and what the trained method makes of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from kzoo.evaluate.figures.images import displayable, put_picture
from kzoo.evaluate.figures.style import fitting, put_heading, put_text, styled, worded

_MOST_COLUMNS = 6  # of one kind: more would be too narrow to be seen


@styled
def views(path: Path, raw: np.ndarray, shown: Mapping[str, np.ndarray], *, examples: int = 6) -> Figure:
    """What the pretext shows the model: a row for each example, the raw image first and each view beside it.

    raw: uint8 `[B,H,W,C]`. shown: name → images of the same B examples, float in [0, 1] or uint8: `[B,h,w,c]`, or
    `[B,n,h,w,c]` for n patches or frames, drawn as one mosaic. Values outside [0, 1] are stretched into it, and
    channels that are neither grey nor colour are averaged; the column's heading says so.
    """
    columns = {"original": raw[:examples], **{name: images[:examples] for name, images in shown.items()}}
    rows = len(columns["original"])
    drawn = {name: displayable(images) for name, images in columns.items()}
    lines = 1 + max(len(remarks) for _, remarks in drawn.values())
    cell = 1.3
    width, height = max(cell * len(columns) + 0.16, 3.6), cell * rows + 0.45 + 0.16 * lines
    figure = Figure(figsize=(width, height))
    put_heading(figure, "What the pretext shows the model")
    left = (width - cell * len(columns)) / 2
    for column, (name, (pictures, remarks)) in enumerate(drawn.items()):
        for row, picture in enumerate(pictures):
            bottom = 0.08 + (rows - 1 - row) * cell
            box = Bbox.from_bounds(left + 0.05 + column * cell, bottom, cell - 0.1, cell - 0.1)
            put_picture(figure, box, picture)
            if row == 0:
                title = "\n".join([fitting(worded(name), 20), *remarks])
                put_text(figure, (box.x0 + box.x1) / 2, box.y1 + 0.04, title, ha="center", va="bottom")
    return figure


@styled
def answers(
    path: Path, columns: Mapping[str, np.ndarray | Sequence[str]], *, heading: str = "What the trained method predicts"
) -> Figure:
    """What the trained method predicts, a row for each example.

    columns: title → pictures, float `[n,h,w,c]` in [0, 1] or uint8, or captions, n strings, which may have line breaks.
    """
    drawn: dict[str, Sequence[Any]] = {
        name: displayable(values)[0] if isinstance(values, np.ndarray) else list(values)
        for name, values in columns.items()
    }
    rows = max(len(values) for values in drawn.values())
    cell = 1.3

    def breadth(values: Sequence[Any]) -> float:  # a caption needs as much room as its longest line
        if not isinstance(values[0], str):
            return cell
        return max(cell, 0.2 + 0.068 * max(len(line) for text in values for line in text.split("\n")))

    widths = [breadth(values) for values in drawn.values()]
    width, height = max(sum(widths) + 0.16, 3.6), cell * rows + 0.61
    figure = Figure(figsize=(width, height))
    put_heading(figure, heading)
    left = (width - sum(widths)) / 2
    for (name, values), room in zip(drawn.items(), widths, strict=True):
        for row, value in enumerate(values):
            box = Bbox.from_bounds(left + 0.05, 0.08 + (rows - 1 - row) * cell, room - 0.1, cell - 0.1)
            middle = (box.x0 + box.x1) / 2
            if isinstance(value, str):
                put_text(figure, middle, (box.y0 + box.y1) / 2, value, ha="center", va="center")
            else:
                put_picture(figure, box, value)
            if row == 0:
                put_text(figure, middle, box.y1 + 0.04, fitting(worded(name), 20), ha="center", va="bottom")
        left += room
    return figure


def pictures_of(ready: Mapping[str, Any], count: int) -> dict[str, np.ndarray]:
    """Every picture in what a pretext made of `count` examples: "view 0", "view 1" where it made several of each, and
    one mosaic of all where these are too many for columns of their own.
    """
    shown: dict[str, np.ndarray] = {}
    for name, value in ready.items():
        if value.dtype.is_floating and value.shape.rank == 4:
            several = value.shape[0] // count
            pictures = value.numpy().reshape(count, several, *value.shape[1:])
            if several > _MOST_COLUMNS:
                shown[name] = pictures
                continue
            for i in range(several):
                shown[name if several == 1 else f"{name} {i}"] = pictures[:, i]
    return shown
