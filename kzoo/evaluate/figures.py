"""Pictures of a run, as PNG files: what the pretext shows, how the loss fell, where the embedding puts the examples.

Functions of arrays and a path; nothing here knows methods, recipes or runs. Drawn on the Agg canvas, so no display is
needed and no other figure of the program is touched. Colour-blind readers can tell the colours apart (Okabe, Ito 2008).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, TransformedBbox
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # scikit-learn's own

from kzoo.evaluate.collapse import unit_norm
from kzoo.system import fonts
from kzoo.system.files import replacing

MAP_POINTS = 2000  # more make t-SNE slow and the picture no clearer
MAP_LEAST = 30  # fewer have no neighbourhoods to speak of: principal components instead
_MAP_COMPONENTS = 50
_EQUAL = 6  # digits after the point in which unit-norm features must differ to be two points

_INK = "#222222"
_QUIET = "#6b6b6b"
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D1F", "#F0E442")
_MARKERS = ("o", "^", "s")  # with the colours, 24 classes that differ, and a legend that still fits
_SAME, _OTHER = "#009E73", "#D55E00"

_STYLE: dict[Any, Any] = {
    "font.family": fonts.HOUSE,
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _QUIET,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "legend.frameon": False,
    "savefig.dpi": 130,
}


def _styled(draw: Callable[..., Figure]) -> Callable[..., None]:
    """Draw in the house style and put the PNG file at the first argument, whole or not at all."""

    @wraps(draw)
    def save(path: Path, *args: Any, **kwargs: Any) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # a user's own style may ask for LaTeX, or draw on black
            matplotlib.rcParams.update(_STYLE)
            figure = draw(path, *args, **kwargs)
            FigureCanvasAgg(figure)
            texts = figure.findobj(Text)
            families = fonts.families(text.get_text() for text in texts)
            for text in texts:
                text.set_fontfamily(families)
            with replacing(path) as scratch:
                figure.savefig(scratch, format="png")

    return save


@_styled
def views(path: Path, raw: np.ndarray, shown: Mapping[str, np.ndarray], *, examples: int = 6) -> Figure:
    """What the pretext shows the model: a row for each example, the raw image first and each view beside it.

    raw: uint8 `[B,H,W,C]`. shown: name → images of the same B examples, float in [0, 1] or uint8: `[B,h,w,c]`, or
    `[B,n,h,w,c]` for n patches or frames, drawn as one mosaic. Values outside [0, 1] are stretched into it, and
    channels that are neither grey nor colour are averaged; the column's heading says so.
    """
    columns = {"raw": raw[:examples], **{name: images[:examples] for name, images in shown.items()}}
    rows = len(columns["raw"])
    drawn = {name: _displayable(images) for name, images in columns.items()}
    lines = 1 + max(len(remarks) for _, remarks in drawn.values())
    cell = 1.3
    width, height = max(cell * len(columns) + 0.16, 3.6), cell * rows + 0.45 + 0.16 * lines
    figure = Figure(figsize=(width, height))
    _heading(figure, "What the pretext shows the model")
    left = (width - cell * len(columns)) / 2
    for column, (name, (pictures, remarks)) in enumerate(drawn.items()):
        for row, picture in enumerate(pictures):
            bottom = 0.08 + (rows - 1 - row) * cell
            box = Bbox.from_bounds(left + 0.05 + column * cell, bottom, cell - 0.1, cell - 0.1)
            _picture(figure, box, picture)
            if row == 0:
                title = "\n".join([_fitting(name.replace("_", " "), 18), *remarks])
                _text(figure, (box.x0 + box.x1) / 2, box.y1 + 0.04, title, ha="center", va="bottom")
    return figure


@_styled
def answers(
    path: Path, columns: Mapping[str, np.ndarray | Sequence[str]], *, heading: str = "What the trained method predicts"
) -> Figure:
    """What the trained method predicts, a row for each example.

    columns: title → pictures, float `[n,h,w,c]` in [0, 1] or uint8, or captions, n strings, which may have line breaks.
    """
    drawn: dict[str, Sequence[Any]] = {
        name: _displayable(values)[0] if isinstance(values, np.ndarray) else list(values)
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
    _heading(figure, heading)
    left = (width - sum(widths)) / 2
    for (name, values), room in zip(drawn.items(), widths, strict=True):
        for row, value in enumerate(values):
            box = Bbox.from_bounds(left + 0.05, 0.08 + (rows - 1 - row) * cell, room - 0.1, cell - 0.1)
            middle = (box.x0 + box.x1) / 2
            if isinstance(value, str):
                _text(figure, middle, (box.y0 + box.y1) / 2, value, ha="center", va="center")
            else:
                _picture(figure, box, value)
            if row == 0:
                _text(figure, middle, box.y1 + 0.04, _fitting(name.replace("_", " "), 18), ha="center", va="bottom")
        left += room
    return figure


@_styled
def loss_curve(path: Path, rows: Sequence[Mapping[str, Any]], *, metric: str = "loss") -> Figure:
    """How the loss fell, against the step or the epoch, whichever the rows have.

    rows: as `csv.DictReader` gives them for `metrics.csv`, text and numbers alike; rows without the metric are left
    out. Over a hundred points get a running mean, centred, drawn over them.
    """
    axis = next((name for name in ("step", "epoch") if rows and name in rows[0]), None)
    points = [(_number(row[axis]) if axis else n, _number(row.get(metric))) for n, row in enumerate(rows)]
    steps, values = np.array(points, float).reshape(-1, 2).T
    known = np.isfinite(steps) & np.isfinite(values)
    steps, values = steps[known], values[known]
    figure = Figure(figsize=(6.4, 3.8))
    axes = figure.add_axes((0.11, 0.14, 0.77, 0.74))
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(axis or "row")
    axes.ticklabel_format(axis="y", scilimits=(-3, 4))  # the heading names the values; here only short numbers fit
    _heading(figure, f"{metric.replace('_', ' ').capitalize()} while training")
    if not len(values):
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "nothing was logged yet", ha="center", color=_QUIET, transform=axes.transAxes)
        return figure
    many = len(values) > 100
    faint: dict[str, Any] = {"color": "#9ecae1", "linewidth": 0.8} if many else {"color": _COLOURS[0], "linewidth": 1.8}
    axes.plot(steps, values, marker="o" if len(values) <= 30 else None, markersize=4, **faint)
    end = values[-1]
    if many:
        window = len(values) // 25
        mean = np.convolve(values, np.ones(window) / window, "valid")
        axes.plot(np.convolve(steps, np.ones(window) / window, "valid"), mean, color=_COLOURS[0], linewidth=1.8)
        end = mean[-1]
        axes.text(0.99, 0.98, f"dark: mean of {window} points", transform=axes.transAxes, ha="right", va="top",
                  fontsize=8, color=_QUIET)  # fmt: skip
    axes.annotate(f"{end:.4g}", (steps[-1], end), xytext=(7, 0), textcoords="offset points", va="center",
                  color=_COLOURS[0], annotation_clip=False)  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True))
    axes.margins(x=0.02)
    return figure


@_styled
def embedding_map(
    path: Path,
    features: Mapping[str, np.ndarray],
    labels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    *,
    seed: int = 0,
) -> Figure:
    """The embedding in two dimensions, one panel for each backbone, side by side.

    features: panel title (such as "trained") → features `[n,d]` of the same n images. labels: int `[n]`, -1 unlabelled.
    Unit-norm features, 50 principal components, then t-SNE (van der Maaten and Hinton 2008) of at most `MAP_POINTS`
    images; where fewer than `MAP_LEAST` of them differ, the first two principal components.
    """
    total = len(next(iter(features.values())))
    chosen = np.sort(np.random.default_rng(seed).permutation(total)[:MAP_POINTS])
    labels = np.full(total, -1) if labels is None else np.asarray(labels)
    groups = _groups(labels[chosen], class_names)
    panels = len(features)
    legend = 0.35 + 0.085 * max((len(name) for name, _, _, _ in groups), default=0) if len(groups) > 1 else 0.1
    side = 4.0
    width, height = side * panels + legend, side + 0.75
    figure = Figure(figsize=(width, height))
    _heading(figure, "Where the embedding puts the examples", f"{len(chosen):,} examples; near means similar")
    fonts.warn_of(fonts.unwritable(class_names))
    for panel, (title, values) in enumerate(features.items()):
        place = ((0.08 + panel * side) / width, 0.1 / height, (side - 0.16) / width, (side - 0.16) / height)
        axes = figure.add_axes(place, xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(visible=True, color="#d9d9d9")
        points, way = _two_dimensions(np.asarray(values)[chosen], seed)
        axes.set_title(f"{title}: {way}", fontsize=10)
        _scatter(axes, points, groups, size=float(np.clip(12000 / len(chosen), 8, 40)))
    if len(groups) > 1:
        handles = [
            Line2D([], [], linestyle="", marker=marker, color=colour, markersize=6, label=name)
            for name, colour, marker, _ in groups
        ]
        figure.legend(
            handles=handles,
            loc="center left",
            bbox_to_anchor=(side * panels / width, 0.5 * side / height),
            fontsize=9 if len(groups) <= 18 else 7.5,
            handletextpad=0.2,
            labelspacing=0.35,
            borderaxespad=0.2,
        )
    return figure


@_styled
def neighbours(
    path: Path,
    images: np.ndarray,
    features: np.ndarray,
    ids: np.ndarray,
    labels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    *,
    queries: int = 6,
    nearest: int = 8,
    seed: int = 0,
) -> Figure:
    """Some images and, beside each, those the embedding finds most similar (cosine), the most similar first.

    images: `[n,H,W,C]`, uint8 or float in [0, 1]. ids: `[n]`; an image of the query's id is not its neighbour.
    labels: int `[n]` or None; where both are known a green frame and ✓ mark the query's class, orange and ✗ another.
    Without a class the query is named by its id and a neighbour by its similarity.
    """
    labels = np.full(len(images), -1) if labels is None else np.asarray(labels)
    chosen = _spread_over_classes(labels, min(queries, len(images)), np.random.default_rng(seed))
    unit = unit_norm(features)
    found = [_nearest(unit, ids, query, nearest) for query in chosen]
    columns = max(len(row) for row in found)
    needed = sorted({*chosen, *(int(index) for row in found for index in row)})
    pictures = dict(zip(needed, _displayable(np.asarray(images)[needed])[0], strict=True))
    cell, gap, tall, top = 0.95, 0.3, 1.12, 0.8
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
    _heading(figure, "Nearest neighbours in the embedding", note)
    for row, (query, others) in enumerate(zip(chosen, found, strict=True)):
        bottom = (len(chosen) - 1 - row) * tall + 0.27
        for column, index in enumerate([query, *others]):
            left = 0.1 + column * cell + (gap if column else 0)
            box = Bbox.from_bounds(left, bottom, cell - 0.12, cell - 0.12)
            frame = None
            if index == query:
                caption = _class_name(labels[index], class_names) or f"id {ids[index]}"
            else:
                caption = _class_name(labels[index], class_names) or f"{unit[query] @ unit[index]:.2f}"
                caption = _fitting(caption, 12)
                if labels[query] >= 0 and labels[index] >= 0:
                    right = labels[query] == labels[index]
                    caption = f"{'✓' if right else '✗'} {caption}"  # the frame's colour is not the only sign
                    frame = _SAME if right else _OTHER
            _picture(figure, box, pictures[index], frame)
            _text(figure, (box.x0 + box.x1) / 2, box.y0 - 0.04, _fitting(caption, 14), ha="center", va="top", size=7)
            if row == 0 and column < 2:
                _text(figure, box.x0, box.y1 + 0.07, "query" if column == 0 else "most similar first", va="bottom")
    return figure


@_styled
def runs_beside(
    path: Path, rows: Sequence[tuple[str, float, Mapping[str, Mapping[str, Any]]]], titles: Mapping[str, str]
) -> Figure:
    """A panel for each probe, a bar for each run, a line where its untrained backbone stands, dots at chance.

    rows: (name, accuracy by chance, probe → {"trained", "untrained", "says"}). titles: of the probes. A bar is grey
    where the difference from untrained is within noise.
    """
    probes = [probe for probe in titles if any(probe in found for _, _, found in rows)]
    names = [_fitting(name, 28) for name, _, _ in rows]
    left, panel, tall = 0.25 + 0.075 * max(map(len, names)), 2.6, 0.34
    width, height = max(left + panel * max(len(probes), 1) + 0.1, 4.4), tall * len(rows) + 1.25
    figure = Figure(figsize=(width, height))
    _heading(figure, "Runs beside each other", "black line: its untrained backbone; dotted: chance; grey: within noise")
    for number, probe in enumerate(probes):
        place = ((left + number * panel) / width, 0.4 / height, (panel - 0.35) / width, tall * len(rows) / height)
        axes = figure.add_axes(place, xlim=(0, 105), ylim=(len(rows) - 0.5, -0.5))
        axes.set_title(f"{titles[probe]}, %")
        axes.set_yticks(range(len(rows)), names if number == 0 else [])
        for row, (_, chance, found) in enumerate(rows):
            if probe in found:
                value = found[probe]
                colour = {"better than untrained": _SAME, "worse than untrained": _OTHER}.get(value["says"], "#9a9a9a")
                axes.barh(row, 100 * value["trained"], height=0.7, color=colour)
                axes.vlines(100 * value["untrained"], row - 0.4, row + 0.4, color=_INK, linewidth=1.6)
                axes.vlines(100 * chance, row - 0.4, row + 0.4, color=_QUIET, linewidth=1, linestyle=":")
                axes.text(100 * value["trained"] - 1.5, row, f"{100 * value['trained']:.1f}", ha="right", va="center",
                          fontsize=7.5, color="white")  # fmt: skip
    if not probes:
        figure.text(0.5, 0.4, "none of the runs has a probe", ha="center", color=_QUIET)
    return figure


@_styled
def contact_sheet(
    path: Path, rows: Sequence[Sequence[tuple[np.ndarray | None, str]]], heading: str, note: str = ""
) -> Figure:
    """Rows of pictures with their names, the first of each row a little apart.

    rows: (uint8 `[h,w,C]`, or None where there is no picture; caption). A caption keeps its end, where files differ.
    """
    cell, gap, tall = 1.05, 0.2, 1.22
    columns = max((len(row) for row in rows), default=1)
    width, height = max(cell * columns + gap + 0.2, 4.2), tall * max(len(rows), 1) + 0.6
    figure = Figure(figsize=(width, height))
    _heading(figure, heading, note)
    for number, row in enumerate(rows):
        bottom = (len(rows) - 1 - number) * tall + 0.3
        for column, (picture, caption) in enumerate(row):
            left = 0.1 + column * cell + (gap if column else 0)
            box = Bbox.from_bounds(left, bottom, cell - 0.12, cell - 0.15)
            if picture is not None:
                _picture(figure, box, _displayable(picture[None])[0][0])
            shown = caption if len(caption) <= 20 else f"…{caption[-19:]}"
            _text(figure, (box.x0 + box.x1) / 2, box.y0 - 0.04, shown, ha="center", va="top", size=6)
    return figure


def pictures_of(ready: Mapping[str, Any], count: int) -> dict[str, np.ndarray]:
    """Every picture in what a pretext made of `count` examples; "view 0", "view 1" where it made several of each."""
    shown: dict[str, np.ndarray] = {}
    for name, value in ready.items():
        if value.dtype.is_floating and value.shape.rank == 4:
            several = value.shape[0] // count
            for i in range(several):
                shown[name if several == 1 else f"{name} {i}"] = value.numpy()[i::several]
    return shown


def _heading(figure: Figure, title: str, note: str = "") -> None:
    height = figure.get_size_inches()[1]
    figure.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", fontsize=11, fontweight="bold")
    figure.text(0.5, 1 - 0.30 / height, note, ha="center", va="top", fontsize=8, color=_QUIET)


def _text(figure: Figure, x: float, y: float, text: str, *, size: float = 8, **how: Any) -> None:
    """A text at a place in inches."""
    figure.text(x, y, text, fontsize=size, transform=figure.dpi_scale_trans, **how)


def _picture(figure: Figure, box: Bbox, picture: np.ndarray, frame: str | None = None) -> None:
    """An image [h,w] or [h,w,3] in [0, 1] in the middle of a box in inches, as large as it fits, perhaps in a frame.

    Few pixels are drawn as squares, many are smoothed. No axes for each: a hundred of them take seconds.
    """
    scale = min(box.width / picture.shape[1], box.height / picture.shape[0])
    width, height = scale * picture.shape[1], scale * picture.shape[0]
    left, bottom = (box.x0 + box.x1 - width) / 2, (box.y0 + box.y1 - height) / 2
    place = TransformedBbox(Bbox.from_bounds(left, bottom, width, height), figure.dpi_scale_trans)
    smooth = "nearest" if max(picture.shape[:2]) < 100 else "antialiased"
    image = BboxImage(place, cmap="gray", norm=Normalize(0, 1), interpolation=smooth)
    image.set_data(picture)
    figure.add_artist(image)
    if frame:
        edge = Rectangle((left, bottom), width, height, fill=False, linewidth=2.2, edgecolor=frame)
        edge.set_transform(figure.dpi_scale_trans)
        figure.add_artist(edge)


def _displayable(images: np.ndarray) -> tuple[list[np.ndarray], list[str]]:
    """Images as [h,w] or [h,w,3] in [0, 1], and what had to be done to them."""
    values = np.asarray(images)
    remarks = []
    values = values / np.float32(255) if values.dtype == np.uint8 else values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if low < -1e-3 or high > 1 + 1e-3:
        values = (values - low) / max(high - low, 1e-12)
        remarks.append("stretched")
    values = np.clip(values, 0, 1)
    if values.shape[-1] not in (1, 3):
        remarks.append(f"mean of {values.shape[-1]} channels")
        values = values.mean(axis=-1, keepdims=True)
    pictures = [_mosaic(value) if value.ndim == 4 else value for value in values]
    return [picture[..., 0] if picture.shape[-1] == 1 else picture for picture in pictures], remarks


def _mosaic(patches: np.ndarray) -> np.ndarray:
    """n patches [n,h,w,c] row by row in a square grid, white between them."""
    count, height, width, channels = patches.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    gap = max(1, round(0.06 * max(height, width)))
    grid = np.ones((down * (height + gap) - gap, across * (width + gap) - gap, channels), np.float32)
    for index, patch in enumerate(patches):
        top, left = (index // across) * (height + gap), (index % across) * (width + gap)
        grid[top : top + height, left : left + width] = patch
    return grid


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):  # an empty cell: the metric was not logged in this row
        return math.nan


def _groups(labels: np.ndarray, class_names: Sequence[str]) -> list[tuple[str, str, str, np.ndarray]]:
    """(name, colour, marker, mask) of the most frequent classes, then in grey of all others and of no class."""
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    listed = np.sort(classes[np.argsort(-counts, kind="stable")[: len(_COLOURS) * len(_MARKERS)]])
    groups = []
    for index, label in enumerate(listed):
        colour, marker = _COLOURS[index % len(_COLOURS)], _MARKERS[index // len(_COLOURS)]
        groups.append((_fitting(_class_name(label, class_names), 24), colour, marker, labels == label))
    if more := len(classes) - len(listed):
        groups.append((f"{more} more classes", "#c4c4c4", ".", (labels >= 0) & ~np.isin(labels, listed)))
    if (labels < 0).any():
        groups.append(("unlabelled", "#9a9a9a", ".", labels < 0))
    return groups


def _class_name(label: int, class_names: Sequence[str]) -> str:
    """The class's name; its number where it has none, or none that a font can write; "" where the class is unknown."""
    if label < 0:
        return ""
    named = label < len(class_names) and fonts.writable(str(class_names[label]))
    return str(class_names[label]) if named else f"class {label}"


def _fitting(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _two_dimensions(features: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """A point [n,2] for each of the features [n,d], and how it was found. Equal features have one point."""
    unit = unit_norm(features)
    rounded = np.round(unit, _EQUAL) + 0.0  # no -0.0 beside 0.0
    # of equal points t-SNE ends in a segmentation fault
    _, first, place = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    distinct = unit[first]
    count, width = distinct.shape
    if count >= MAP_LEAST:
        reduced = PCA(min(_MAP_COMPONENTS, count, width), random_state=seed).fit_transform(distinct)
        with threadpool_limits(1):  # so few points wait longer for threads than they compute (twenty times, when busy)
            points = TSNE(perplexity=min(30, (count - 1) / 3), max_iter=500, random_state=seed).fit_transform(reduced)
        way = "t-SNE"
    else:
        points = np.zeros((count, 2))
        if components := min(2, count - 1, width):
            points[:, :components] = PCA(components, random_state=seed).fit_transform(distinct)
        way = "two principal components"
    if count < min(len(unit), MAP_LEAST):
        way = f"only {count} different point{'s' * (count != 1)}"
    return points[place.ravel()], way


def _scatter(axes: Axes, points: np.ndarray, groups: Sequence[tuple[str, str, str, np.ndarray]], size: float) -> None:
    for _, colour, marker, mask in reversed(groups):  # grey ones below
        x, y = points[mask].T
        axes.scatter(x, y, s=size, c=colour, marker=marker, linewidths=0.2, edgecolors="white", alpha=0.9)
    axes.margins(0.04)


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
