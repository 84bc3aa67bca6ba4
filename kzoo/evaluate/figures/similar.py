"""What the embedding finds alike."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from kzoo.evaluate.collapse import unit_norm
from kzoo.evaluate.figures.images import displayable, put_picture
from kzoo.evaluate.figures.style import OTHER, SAME, class_name, fitting, put_heading, put_text, styled


@styled
def neighbours(
    path: Path,
    images: np.ndarray,
    features: np.ndarray,
    ids: np.ndarray,
    labels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    *,
    names: Sequence[str] = (),
    queries: int = 6,
    nearest: int = 8,
    seed: int = 0,
) -> Figure:
    """Some images and, beside each, those the embedding finds most similar (cosine), the most similar first.

    images: `[n,H,W,C]`, uint8 or float in [0, 1]. ids: `[n]`; an image of the query's id is not its neighbour.
    labels: int `[n]` or None; where both are known a green frame and ✓ mark the query's class, orange and ✗ another.
    names: of the examples, by their ids, such as those of files. Without a class an example is named by these, else by
    its id, and a neighbour has its similarity.
    """
    labels = np.full(len(images), -1) if labels is None else np.asarray(labels)
    chosen = _spread_over_classes(labels, min(queries, len(images)), np.random.default_rng(seed))
    unit = unit_norm(features)
    found = [_nearest(unit, ids, query, nearest) for query in chosen]
    columns = max(len(row) for row in found)
    needed = sorted({*chosen, *(int(index) for row in found for index in row)})
    pictures = dict(zip(needed, displayable(np.asarray(images)[needed])[0], strict=True))
    cell, gap, top = 0.95, 0.3, 0.8
    tall = 1.12 if (labels[needed] >= 0).all() else 1.22  # of those without a class two lines are told
    width, height = max(cell * (1 + columns) + gap + 0.2, 3.8), tall * len(chosen) + top
    figure = Figure(figsize=(width, height))
    compared = [(labels[q], labels[n]) for q, row in zip(chosen, found, strict=True) for n in row]
    compared = [(a, b) for a, b in compared if a >= 0 and b >= 0]
    same = sum(a == b for a, b in compared)
    note = (
        f"{same} of {len(compared)} neighbours are of the query's class"
        if compared
        else "the number is the cosine similarity"
    )
    put_heading(figure, "Nearest neighbours in the embedding", note)
    for row, (query, others) in enumerate(zip(chosen, found, strict=True)):
        bottom = (len(chosen) - 1 - row) * tall + tall - 0.85
        for column, index in enumerate([query, *others]):
            left = 0.1 + column * cell + (gap if column else 0)
            box = Bbox.from_bounds(left, bottom, cell - 0.12, cell - 0.12)
            frame = None
            if index == query:
                caption = fitting(class_name(labels[index], class_names), 14) or _named(ids[index], names)
            else:
                caption = fitting(class_name(labels[index], class_names), 12)
                caption = caption or f"{_named(ids[index], names)}\n{unit[query] @ unit[index]:.2f}"
                if labels[query] >= 0 and labels[index] >= 0:
                    right = labels[query] == labels[index]
                    caption = f"{'✓' if right else '✗'} {caption}"  # the frame's colour is not the only sign
                    frame = SAME if right else OTHER
            put_picture(figure, box, pictures[index], frame)
            put_text(figure, (box.x0 + box.x1) / 2, box.y0 - 0.04, caption, ha="center", va="top", size=7)
            if row == 0 and column < 2:
                put_text(figure, box.x0, box.y1 + 0.07, "query" if column == 0 else "most similar first", va="bottom")
    return figure


@styled
def contact_sheet(
    path: Path, rows: Sequence[Sequence[tuple[np.ndarray | None, str]]], heading: str, note: str = ""
) -> Figure:
    """Rows of pictures with their names, the first of each row a little apart.

    rows: (uint8 `[h,w,C]`, or None where there is no picture; caption of one or two lines). A line keeps its end, where
    files differ.
    """
    cell, gap, tall = 1.05, 0.2, 1.32
    columns = max((len(row) for row in rows), default=1)
    width, height = max(cell * columns + gap + 0.2, 4.2), tall * max(len(rows), 1) + 0.6
    figure = Figure(figsize=(width, height))
    put_heading(figure, heading, note)
    for number, row in enumerate(rows):
        bottom = (len(rows) - 1 - number) * tall + 0.3
        for column, (picture, caption) in enumerate(row):
            left = 0.1 + column * cell + (gap if column else 0)
            box = Bbox.from_bounds(left, bottom + 0.1, cell - 0.12, cell - 0.15)
            if picture is not None:
                put_picture(figure, box, displayable(picture[None])[0][0])
            shown = "\n".join(line if len(line) <= 20 else f"…{line[-19:]}" for line in caption.split("\n"))
            put_text(figure, (box.x0 + box.x1) / 2, box.y0 - 0.04, shown, ha="center", va="top", size=6)
    return figure


def _named(number: int, names: Sequence[str]) -> str:
    """The name of an example's file, else its end, where files differ; its id where it has none."""
    name = str(names[number]).rpartition("/")[2] if number < len(names) else f"id {number}"
    return name if len(name) <= 14 else f"…{name[-13:]}"


def _spread_over_classes(labels: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """`count` positions, in turn from each class while there are any left, so that the picture shows many classes."""
    order = rng.permutation(len(labels))
    turn = np.zeros(len(labels), int)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members))
    return [
        int(index) for index in sorted(order[np.argsort(turn[order], kind="stable")][:count], key=lambda i: labels[i])
    ]


def _nearest(unit: np.ndarray, ids: np.ndarray, query: int, count: int) -> np.ndarray:
    """Positions of the `count` most similar by cosine, the most similar first, without the query's id."""
    similarity = unit @ unit[query]
    order = np.argsort(-similarity, kind="stable")
    return order[ids[order] != ids[query]][:count]
