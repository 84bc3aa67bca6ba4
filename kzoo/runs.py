"""A run: the folder that training a recipe leaves, and how to build again what the recipe names.

recipe.yaml   every default written out         kzoo.json   versions, plugins, device, seed, status
checkpoints/  logs/  figures/  evaluation.json  backbone.weights.h5
"""

import json
import platform
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import keras

from kzoo import registry
from kzoo.data import Source
from kzoo.errors import DataError, EvaluationError, NoSplit, RecipeError
from kzoo.files import replacing, write_json, write_text
from kzoo.method import Method
from kzoo.plugins import load_plugins
from kzoo.recipe import Data, Recipe, changes, dump, load
from kzoo.specs import DatasetSpec


@dataclass(frozen=True)
class Run:
    """The paths of a run, and what is read from them."""

    folder: Path

    @cached_property
    def recipe(self) -> Recipe:
        """Raises RecipeError where the folder is not a run."""
        return load(self.folder / "recipe.yaml")

    @property
    def record(self) -> dict[str, Any]:
        """What `kzoo.json` says; {} before it is written."""
        path = self.folder / "kzoo.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    @property
    def weights(self) -> Path:
        return self.folder / "backbone.weights.h5"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation.json"

    def start(self, recipe: Recipe, device: str) -> None:
        """Make the folder and write down the recipe and what it runs on.

        Raises RecipeError where what was written reads back otherwise, OSError where it cannot be written.
        """
        for folder in (self.checkpoints, self.logs, self.figures):
            folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "recipe.yaml"
        write_text(path, dump(recipe))
        if lines := changes(recipe.model_dump(mode="json"), load(path).model_dump(mode="json")):
            raise RecipeError(
                f"{path}: reads back as another recipe ({'; '.join(lines)}); set values that YAML can hold"
            )
        self.note(status="training", seed=recipe.seed, device=device, versions=versions(), plugins=plugin_versions())

    def note(self, **entries: Any) -> None:
        """Add entries to `kzoo.json`."""
        write_json(self.folder / "kzoo.json", {**self.record, **entries})

    def save_encoder(self, encoder: keras.Model) -> None:
        with replacing(self.weights) as scratch:
            encoder.save_weights(scratch)

    def encoder(self, source: Source) -> keras.Model:
        """The trained encoder, rebuilt from the recipe. Raises EvaluationError where training has not ended."""
        if not self.weights.exists():
            raise EvaluationError(f"{self.folder}: no trained backbone; finish it with `kzoo train --resume`")
        encoder = build_method(self.recipe, source).encoder
        encoder.load_weights(self.weights)
        return encoder


def open_data(data: Data, split: str | None = None) -> Source:
    """The source that a recipe's `data:` section names, or another split of it. Raises PluginError or DataError."""
    return registry.open_dataset(data.name, split or data.split, **data.options)


def open_sources(recipe: Recipe) -> tuple[Source, Source | None]:
    """What to train on, and the held-out split to test on: the one the recipe names, else the dataset's own "test"."""
    train = open_data(recipe.data)
    if recipe.evaluate.data:
        return train, open_data(recipe.evaluate.data)
    spec: DatasetSpec = registry.find_dataset(recipe.data.name)
    if recipe.data.split == "test" or (spec.splits and "test" not in spec.splits):
        return train, None
    try:
        test = open_data(recipe.data, split="test")
        return train, None if test.digest and test.digest == train.digest else test  # by another name: "testing"
    except NoSplit:
        return train, None  # nothing is held out; a test split that cannot be read is an error


def input_shape(recipe: Recipe, source: Source) -> tuple[int, ...]:
    """(H, W, C) of what goes downstream: the method's `size` where it sets one, else that of the dataset's images.

    Of text, (T, V): the length, and the size of the vocabulary.
    """
    if source.modality == "text":
        return source.length, len(source.vocabulary)
    height, width, channels = source.image_shape
    size = recipe.method.options.get("size")
    if size is None and height != width:
        raise DataError(f"{source.name}: images of {height} x {width} pixels; set method.options.size for square views")
    shape = (size or height, size or width, channels)
    if small := registry.too_small(registry.find_backbone(recipe.backbone.name), shape):
        raise DataError(f"{source.name}: {small}; set {'method' if size else 'data'}.options.size")
    return shape


def build_backbone(recipe: Recipe, source: Source) -> keras.Model:
    """The backbone as training starts with it: the same recipe gives the same initial weights."""
    keras.utils.set_random_seed(recipe.seed)
    shape: tuple[int | None, ...] = input_shape(recipe, source)
    if registry.find_method(recipe.method.name).any_size:
        shape = (None, None, shape[-1])
    return registry.build_backbone(recipe.backbone.name, shape, **recipe.backbone.options)


def build_method(recipe: Recipe, source: Source) -> Method:
    """Backbone and method of a recipe, built; call it inside the strategy's scope."""
    backbone = build_backbone(recipe, source)
    return registry.build_method(recipe.method.name, backbone, data=source, **recipe.method.options)


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    names = ("kzoo", "keras", "tensorflow", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def plugin_versions() -> dict[str, str]:
    """Distribution and version of every plugin in use."""
    return {plugin.distribution: plugin.version for plugin in load_plugins().records if plugin.ok}
