"""The embedding in two dimensions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # scikit-learn's own

from kzoo.evaluate.collapse import unit_norm
from kzoo.evaluate.figures.images import displayable
from kzoo.evaluate.figures.style import COLOURS, MARKERS, class_name, fitting, put_heading, styled
from kzoo.system import fonts

MAP_POINTS = 2000  # more make t-SNE slow and the picture no clearer
MAP_LEAST = 30  # fewer have no neighbourhoods to speak of: principal components instead
_MAP_COMPONENTS = 50
_GRID = 9  # squares of the map to a side, of which each shows a picture
_THUMBNAIL = 24  # points of its longer side
_EQUAL = 6  # digits after the point in which unit-norm features must differ to be two points


@styled
def embedding_map(
    path: Path,
    features: Mapping[str, np.ndarray],
    labels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    *,
    thumbnails: np.ndarray | None = None,
    seed: int = 0,
) -> Figure:
    """The embedding in two dimensions, one panel for each backbone, side by side.

    features: panel title (such as "trained") → features `[n,d]` of the same n images. labels: int `[n]`, -1 unlabelled.
    thumbnails: `[n,h,w,c]`, pictures of the images; some are drawn where no colour tells of classes.
    Unit-norm features, 50 principal components, then t-SNE (van der Maaten and Hinton 2008) of at most `MAP_POINTS`
    images; where fewer than `MAP_LEAST` of them differ, the first two principal components.
    """
    total = len(next(iter(features.values())))
    chosen = np.sort(np.random.default_rng(seed).permutation(total)[:MAP_POINTS])
    labels = np.full(total, -1) if labels is None else np.asarray(labels)
    groups = _groups(labels[chosen], class_names)
    panels = len(features)
    legend = 0.45 + 0.085 * max((len(name) for name, _, _, _ in groups), default=0) if len(groups) > 1 else 0.1
    side = 4.0
    width, height = side * panels + legend, side + 0.75
    figure = Figure(figsize=(width, height))
    put_heading(figure, "Where the embedding puts the examples", f"{len(chosen):,} examples; near means similar")
    fonts.warn_of(fonts.unwritable(class_names))
    for panel, (title, values) in enumerate(features.items()):
        place = ((0.08 + panel * side) / width, 0.1 / height, (side - 0.16) / width, (side - 0.16) / height)
        axes = figure.add_axes(place, xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(visible=True, color="#d9d9d9")
        points, way = _two_dimensions(np.asarray(values)[chosen], seed)
        axes.set_title(f"{title}: {way}", fontsize=10)
        _scatter(axes, points, groups, size=float(np.clip(12000 / len(chosen), 8, 40)))
        if thumbnails is not None and (labels[chosen] < 0).all():
            _put_thumbnails(axes, points, np.asarray(thumbnails)[chosen])
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


def _put_thumbnails(axes: Axes, points: np.ndarray, images: np.ndarray) -> None:
    """The picture of the example that is nearest to the middle of each square of a grid, where one lies in it."""
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.maximum(high - low, 1e-12) * (_GRID - 1e-6)
    square = scaled.astype(int)
    off = np.abs(scaled - square - 0.5).max(axis=1)
    nearest: dict[tuple[int, int], int] = {}
    for index in np.argsort(off, kind="stable"):
        nearest.setdefault((int(square[index, 0]), int(square[index, 1])), int(index))
    chosen = sorted(nearest.values())
    for index, picture in zip(chosen, displayable(images[chosen])[0], strict=True):
        zoom = _THUMBNAIL / max(picture.shape[:2])
        image = OffsetImage(picture, zoom=zoom, cmap="gray", norm=Normalize(0, 1))
        axes.add_artist(AnnotationBbox(image, points[index], frameon=False, pad=0))


def _groups(labels: np.ndarray, class_names: Sequence[str]) -> list[tuple[str, str, str, np.ndarray]]:
    """(name, colour, marker, mask) of the most frequent classes, then in grey of all others and of no class."""
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    listed = np.sort(classes[np.argsort(-counts, kind="stable")[: len(COLOURS) * len(MARKERS)]])
    groups = []
    for index, label in enumerate(listed):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index // len(COLOURS)]
        groups.append((fitting(class_name(label, class_names), 24), colour, marker, labels == label))
    if more := len(classes) - len(listed):
        groups.append((f"{more} more classes", "#c4c4c4", ".", (labels >= 0) & ~np.isin(labels, listed)))
    if (labels < 0).any():
        groups.append(("unlabelled", "#9a9a9a", ".", labels < 0))
    return groups


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
