"""How good the embedding is while it is trained: the nearest-neighbour probe every few epochs, `evaluate.every`."""

import csv
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo.data.source import Source
from kzoo.data.streams import evaluation_batches
from kzoo.errors import EvaluationError
from kzoo.evaluate.features import Features, embed_all, make_reader
from kzoo.evaluate.probes import knn
from kzoo.recipe.schema import NearestNeighbours, Recipe
from kzoo.runs.build import open_probed, side

KEY = "knn_accuracy"
_LARGEST = 5000  # examples to vote, and as many to ask, at most: the probe at the end takes all
_BATCH = 256


class ProbeWhileTraining(keras.callbacks.Callback):
    """Adds the accuracy of the nearest-neighbour vote to the figures of every n-th epoch, and of the last.

    It must stand before the callbacks that write figures. It reads the weights and changes nothing: the training gives
    the same weights with it and without it. Of splits without labels there is no figure.
    """

    def __init__(self, recipe: Recipe, train: Source, test: Source | None):
        super().__init__()
        self.settings, self.epochs = recipe.evaluate, recipe.train.epochs
        self.every, self.knn = recipe.evaluate.every or self.epochs, recipe.evaluate.knn or NearestNeighbours()
        self.learnt, self.test = open_probed(recipe, train, test), test
        self.size = side(recipe, train)
        self.read: Any = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch + 1) % self.every and epoch + 1 < self.epochs:
            return
        learnt = self._embed(self.learnt, self.settings.max_train)
        test = self._embed(self.test, self.settings.max_test) if self.test else learnt
        try:
            logs[KEY] = knn(learnt, test, self.knn.k, self.knn.temperature, exclude_self=test is learnt)
        except EvaluationError:  # no labels
            return

    def _embed(self, source: Source, limit: int | None) -> Features:
        encoder, name = self.model.encoder, self.settings.features[0]
        self.read = self.read or make_reader(encoder, (name,))
        limit = min(limit or _LARGEST, _LARGEST)
        some = np.random.default_rng(0).permutation(source.size)[:limit] if limit < source.size else None
        batches = evaluation_batches(source, _BATCH, self.size, some, key=encoder.inputs[0].name)
        return embed_all(encoder, batches, (name,), read=self.read)[name]


class Figures(keras.callbacks.CSVLogger):
    """`metrics.csv`, where a figure that not every epoch has is left empty in the others.

    sometimes: such figures. A file that is there already keeps its columns, whatever was asked for since.
    """

    def __init__(self, path: Path, sometimes: tuple[str, ...]):
        super().__init__(str(path), append=True)
        self.columns, self.sometimes = _columns(path), sometimes

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        row = {**dict.fromkeys(self.sometimes, ""), **(logs or {})}
        if self.columns:
            row = {name: row.get(name, "") for name in self.columns}
        super().on_epoch_end(epoch, row)


def _columns(path: Path) -> list[str]:
    """The figures that a file has; [] where there is none yet. Keras doubles them, as "val_"."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [name for name in next(csv.reader(file), []) if name != "epoch" and not name.startswith("val_")]
