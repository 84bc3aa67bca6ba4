"""Which labels the method of a run sees: chosen when the run begins, and kept in it."""

from typing import Any

import numpy as np

from kzoo.data.labels import choose_labels, hide_labels, labels_of
from kzoo.data.source import Source
from kzoo.errors import DataError, printable
from kzoo.plugins import registry
from kzoo.recipe.schema import Labels, Recipe
from kzoo.runs.run import Run
from kzoo.specs import lacks_labels
from kzoo.system.files import read_json, write_json


def seen_by_method(run: Run, recipe: Recipe, source: Source) -> Source:
    """The source as the recipe's method may see it; as it is, where nothing is hidden and the method needs no labels.

    Raises DataError where it has no labels and they are needed, or has not those that the run keeps.
    """
    wanted, method = recipe.data.labels, registry.find_method(recipe.method.name)
    if wanted is None and not method.labels:
        return source
    known = labels_of(source)
    if not source.classes or known.max() < 0:
        raise DataError(lacks_labels(source.name, method))
    wanted = wanted or Labels()
    kept = read_json(run.labels)
    labelled = (
        _kept(run, source, known, kept["shown"])
        if "shown" in kept
        else choose_labels(
            known, source.classes, seed=recipe.seed, per_class=wanted.per_class, fraction=wanted.fraction
        )
    )
    return hide_labels(source, labelled, wanted.share)


def keep_labels(run: Run, recipe: Recipe, source: Source) -> None:
    """Write `labels.json`: the ids of the examples whose labels the method sees, by class, where others are hidden."""
    wanted = recipe.data.labels
    if source.labelled is None or wanted is None or (wanted.per_class is None and wanted.fraction is None):
        return
    known = labels_of(source)
    shown = {
        printable(name): [int(number) for number in source.labelled if known[number] == label]
        for label, name in enumerate(source.classes)
    }
    write_json(run.labels, {"seed": recipe.seed, "shown": shown})


def _kept(run: Run, source: Source, known: np.ndarray, shown: Any) -> np.ndarray:
    """The ids that a run has kept. Raises DataError where they have other labels now."""
    try:
        for label, name in enumerate(source.classes):
            if not (known[shown[printable(name)]] == label).all():
                raise IndexError(name)
        return np.sort(np.array([number for numbers in shown.values() for number in numbers], np.int64))
    except (LookupError, TypeError, ValueError):
        raise DataError(
            f"{run.labels}: names examples that {source.name} has no such label for; restore the data, or start anew "
            "in another --run-dir"
        ) from None
