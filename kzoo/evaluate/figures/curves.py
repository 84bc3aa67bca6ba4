"""How the loss fell, and how runs compare."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kzoo.evaluate.figures.style import COLOURS, INK, OTHER, QUIET, SAME, fitting, put_heading, styled


@styled
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
    axes = figure.add_axes((0.13, 0.14, 0.75, 0.74))
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(axis or "row")
    axes.set_ylabel(metric.replace("_", " "))
    axes.ticklabel_format(axis="y", scilimits=(-3, 4))  # the heading names the values; here only short numbers fit
    put_heading(figure, f"{metric.replace('_', ' ').capitalize()} while training")
    if not len(values):
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "nothing was logged yet", ha="center", color=QUIET, transform=axes.transAxes)
        return figure
    many = len(values) > 100
    faint: dict[str, Any] = {"color": "#9ecae1", "linewidth": 0.8} if many else {"color": COLOURS[0], "linewidth": 1.8}
    axes.plot(steps, values, marker="o" if len(values) <= 30 else None, markersize=4, **faint)
    end = values[-1]
    if many:
        window = len(values) // 25
        mean = np.convolve(values, np.ones(window) / window, "valid")
        axes.plot(np.convolve(steps, np.ones(window) / window, "valid"), mean, color=COLOURS[0], linewidth=1.8)
        end = mean[-1]
        axes.text(0.99, 0.98, f"dark: mean of {window} points", transform=axes.transAxes, ha="right", va="top",
                  fontsize=8, color=QUIET)  # fmt: skip
    axes.annotate(f"{end:.4g}", (steps[-1], end), xytext=(7, 0), textcoords="offset points", va="center",
                  color=COLOURS[0], annotation_clip=False)  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True))
    axes.margins(x=0.02)
    return figure


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):  # an empty cell: the metric was not logged in this row
        return math.nan


@styled
def runs_beside(
    path: Path, rows: Sequence[tuple[str, float, Mapping[str, Mapping[str, Any]]]], titles: Mapping[str, str]
) -> Figure:
    """A panel for each probe, a bar for each run, a line where its untrained backbone stands, dots at chance.

    rows: (name, accuracy by chance, probe → {"trained", "untrained", "says"}). titles: of the probes. A bar is grey
    where the difference from untrained is within noise.
    """
    probes = [probe for probe in titles if any(probe in found for _, _, found in rows)]
    names = [fitting(name, 28) for name, _, _ in rows]
    left, panel, tall = 0.25 + 0.075 * max(map(len, names)), 2.6, 0.34
    width, height = max(left + panel * max(len(probes), 1) + 0.1, 4.4), tall * len(rows) + 1.4
    figure = Figure(figsize=(width, height))
    put_heading(
        figure, "Runs beside each other", "black line: its untrained backbone; dotted: chance; grey: within noise"
    )
    for number, probe in enumerate(probes):
        place = ((left + number * panel) / width, 0.55 / height, (panel - 0.35) / width, tall * len(rows) / height)
        axes = figure.add_axes(place, xlim=(0, 122), ylim=(len(rows) - 0.5, -0.5))
        axes.set_xticks(range(0, 101, 25))
        axes.set_title(titles[probe])
        axes.set_xlabel("accuracy, %")
        axes.set_yticks(range(len(rows)), names if number == 0 else [])
        for row, (_, chance, found) in enumerate(rows):
            if probe in found:
                value = found[probe]
                colour = {"better than untrained": SAME, "worse than untrained": OTHER}.get(value["says"], "#9a9a9a")
                axes.barh(row, 100 * value["trained"], height=0.7, color=colour)
                axes.vlines(100 * value["untrained"], row - 0.4, row + 0.4, color=INK, linewidth=1.6)
                axes.vlines(100 * chance, row - 0.4, row + 0.4, color=QUIET, linewidth=1, linestyle=":")
                right = 100 * max(value["trained"], value["untrained"]) + 3
                axes.text(right, row, f"{100 * value['trained']:.1f}", ha="left", va="center", fontsize=7.5, color=INK)
    if not probes:
        figure.text(0.5, 0.4, "none of the runs has a probe", ha="center", color=QUIET)
    return figure
