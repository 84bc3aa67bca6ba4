"""What a recipe names, opened and built: its data, its backbone and method, their optimizer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from kzoo import optimizers
from kzoo.data.source import Source
from kzoo.errors import DataError, NoSplit
from kzoo.folder.layout import some
from kzoo.method import Method
from kzoo.plugins import registry, targets
from kzoo.recipe.schema import Data, Recipe
from kzoo.runs.plan import steps_per_epoch, view_size
from kzoo.specs import DatasetSpec


def open_data(data: Data, split: str | None = None) -> Source:
    """The source that a recipe's `data:` section names, or another split of it. Raises PluginError or DataError."""
    return targets.open_dataset(data.name, split or data.split, **data.options)


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


def open_probed(recipe: Recipe, train: Source, test: Source | None) -> Source:
    """What the probes learn from: the split that the recipe names, else the training data.

    Raises DataError where its classes are not those of the split that is tested on.
    """
    if recipe.evaluate.train is None:
        return train
    source = open_data(recipe.evaluate.train)
    if test is not None and source.classes != test.classes:
        raise DataError(
            f"evaluate.train: {source.name} has the classes {some(source.classes)}, and {test.name}, to test on, "
            f"{some(test.classes)}; name two splits of one dataset"
        )
    return source


def tested_on(recipe: Recipe, test: Source | None) -> dict[str, Any]:
    """What a run writes down of the split it is tested on: what the recipe asks for, and the digest of what it has."""
    asked = recipe.evaluate.data or recipe.data
    return {"asked": asked.model_dump(mode="json"), "digest": test.digest if test else ""}


def input_shape(recipe: Recipe, source: Source) -> tuple[int, ...]:
    """(H, W, C) of what goes downstream: the method's `size` where it sets one, else that of the dataset's images.

    Of text, (T, V): the length, and the size of the vocabulary.
    """
    sides = view_size(recipe, source.name, *source.image_shape[:2]) if source.image_shape else None
    kind = registry.find_method(recipe.method.name).backbone_modality
    return targets.modality(kind).input_shape(source, sides)


def side(recipe: Recipe, source: Source) -> int:
    """The height in pixels of what goes downstream, of a clip that of its frames; of text the length."""
    shape = input_shape(recipe, source)
    return shape[-3] if len(shape) > 2 else shape[0]


def takes(recipe: Recipe, source: Source) -> dict[str, Any]:
    """What goes downstream, for whoever uses the backbone without its data: "shape", and of text the "vocabulary"."""
    known = {"vocabulary": list(source.vocabulary)} if source.vocabulary else {}
    return {"shape": list(input_shape(recipe, source)), **known}


def build_backbone(recipe: Recipe, source: Source) -> keras.Model:
    """The backbone as training starts with it: the same recipe gives the same initial weights."""
    keras.utils.set_random_seed(recipe.seed)
    shape: tuple[int | None, ...] = input_shape(recipe, source)
    if registry.find_method(recipe.method.name).any_size:
        shape = (None, None, shape[-1])
    return targets.build_backbone(recipe.backbone.name, shape, **recipe.backbone.options)


def build_method(recipe: Recipe, source: Source, begin: Callable[[keras.Model], None] | None = None) -> Method:
    """Backbone and method of a recipe, built; call it inside the strategy's scope.

    begin: gives the backbone the weights that it begins with, in place of new ones.
    """
    backbone = build_backbone(recipe, source)
    if begin:
        begin(backbone)
    return targets.build_method(recipe.method.name, backbone, data=source, **recipe.method.options)


def compile_method(method: Method, recipe: Recipe, source: Source) -> None:
    """Give a method its recipe's optimizer; inside the strategy's scope."""
    settings, steps = recipe.train, steps_per_epoch(recipe, source.size)
    optimizer = optimizers.build(
        recipe.optimizer, batch_size=settings.batch_size, steps_per_epoch=steps, epochs=settings.epochs
    )
    method.compile(
        optimizer,
        clip_norm=recipe.optimizer.clip_norm,
        clip_tensor_norm=recipe.optimizer.clip_tensor_norm,
        accumulate=settings.accumulate,
        total_steps=settings.epochs * steps,
        jit_compile=settings.jit_compile,
    )


@contextmanager
def precision(recipe: Recipe) -> Iterator[None]:
    """What is built within the block has the recipe's precision."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.train.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
