"""What training a recipe will do, in rows: as `kzoo train --dry-run` foresees it, and as it is printed before the first
step. Without TensorFlow.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kzoo.errors import DataError, RecipeError
from kzoo.folder.census import census_lines, image_census
from kzoo.options import FolderOptions
from kzoo.plugins import registry, targets
from kzoo.plugins.describe import plain_table
from kzoo.recipe.schema import Data, Labels, Optimizer, Recipe
from kzoo.runs import presets
from kzoo.runs.kept import find_kept
from kzoo.schedules import Schedule, bounds_of, words_of
from kzoo.specs import lacks_labels
from kzoo.system.console import tell


def steps_per_epoch(recipe: Recipe, examples: int) -> int:
    """Steps of an epoch over so many examples. Raises RecipeError where they do not fill one batch."""
    batch = recipe.train.batch_size
    if batch > examples:
        raise RecipeError(
            f"train.batch_size: {batch:,} is more than the {examples:,} examples of {recipe.data.name}, split "
            f"{recipe.data.split}: no step could be made; take at most {examples:,}"
        )
    return recipe.train.steps_per_epoch or examples // batch


def view_size(recipe: Recipe, title: str, height: int, width: int) -> tuple[int, int]:
    """(H, W) of what goes downstream: the method's `size` where it sets one, else that of the dataset's images.

    Raises DataError where images cannot be used as they are.
    """
    size = recipe.method.options.get("size")
    if size is None and height != width:
        views = "size" in registry.find_method(recipe.method.name).options.model_fields
        remedy = "set method.options.size for square views" if views else "let data.options make them square"
        raise DataError(f"{title}: images of {height} x {width} pixels; {remedy}")
    shape = (size or height, size or width)
    if small := targets.too_small(registry.find_backbone(recipe.backbone.name), (*shape, None)):
        raise DataError(f"{title}: {small}; set {'method' if size else 'data'}.options.size")
    return shape


def passes(recipe: Recipe, examples: int) -> float:
    """How often each example is met in the whole training, whatever the recipe calls an epoch."""
    return recipe.train.epochs * steps_per_epoch(recipe, examples) / (examples // recipe.train.batch_size)


def print_forecast(console: Console, recipe: Recipe, run_dir: Path, call: str) -> None:
    """Print what training a checked recipe would do, as far as can be known without TensorFlow and without decoding.

    Raises RecipeError where the data do not fill one batch, DataError where a folder is missing or cannot be read,
    BackboneError where what the training would begin with is not there.
    """
    examples, lines = _foreseen(recipe)
    if recipe.init_from and not _awaits_download(recipe.init_from):
        find_kept(recipe.init_from)
    grid = plain_table()
    for key, value, options in rows(recipe, examples):
        grid.add_row(f"[dim]{key}[/]", escape(value))
        for name, chosen in _flat(options):
            grid.add_row("", f"  [dim]{escape(name)}:[/] {escape(json.dumps(chosen))}")
    grid.add_row("[dim]run folder[/]", escape(str(run_dir)))
    console.print(f"[bold]{escape(recipe.name)}[/]: the recipe is sound, nothing was run")
    console.print(grid)
    for line in lines:
        tell(console, line)
    console.print("to run it:", escape(call), soft_wrap=True)


def _awaits_download(place: str) -> bool:
    """Nothing is downloaded to foresee something."""
    return registry.names_preset(place) and presets.awaits_download(registry.find_preset(place))


def _foreseen(recipe: Recipe) -> tuple[int | None, list[str]]:
    """How many examples there are to train on, and what is to be said of the data, as far as names and headers tell."""
    examples, lines = _seen(recipe, recipe.data)
    for data in filter(None, (recipe.evaluate.data, recipe.evaluate.train)):
        _, more = _seen(recipe, data)
        lines += [line for line in more if line not in lines]
    return examples, lines


def _seen(recipe: Recipe, data: Data) -> tuple[int | None, list[str]]:
    spec = registry.find_dataset(data.name)
    prefix, _, path = data.name.partition(":")
    if prefix == "folder":
        options = FolderOptions.model_validate(data.options)
        census = image_census(path, options)
        split = census.find(data.split)
        refuse_unlabelled(recipe, data, census.classes)

        from kzoo.folder.glance import glance  # brings NumPy and Pillow, which recipes of other data need not

        census, common, looked = glance(census, options)
        if common:
            view_size(recipe, data.name, *common)
        return len(census.splits[split]), [*census_lines(census.as_json()), f"  {looked}"]
    size = spec.sizes.get(data.split)
    if size is None:
        return None, [f"{data.name} was not opened: whether it is there, and fills a batch, is told when it is trained"]
    return min(size, data.options.get("limit") or size), []


def refuse_unlabelled(recipe: Recipe, data: Data, classes: Sequence[str]) -> None:
    """Raise DataError where the training data have no classes and the recipe needs labels."""
    method = registry.find_method(recipe.method.name)
    if data is recipe.data and not classes and (method.labels or recipe.data.labels):
        raise DataError(lacks_labels(data.name, method))


def table(recipe: Recipe, examples: int, found: Mapping[str, str], more: Mapping[str, str]) -> Table:
    """The plan as it is printed before the first step.

    found: what was found besides, to add to the rows of these keys. more: further rows.
    """
    grid = plain_table()
    grid.add_row("[dim]recipe[/]", escape(recipe.name))
    for key, value, _ in rows(recipe, examples):
        grid.add_row(f"[dim]{key}[/]", escape(", ".join(filter(None, (value, found.get(key))))))
    for key, value in more.items():
        grid.add_row(f"[dim]{key}[/]", escape(value))
    return grid


def rows(recipe: Recipe, examples: int | None = None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The rows of a plan: what, how, with which options."""
    optimizer, training, evaluation = recipe.optimizer, recipe.train, recipe.evaluate
    number = f", {examples:,} examples" if examples else ""
    yield "dataset", f"{recipe.data.name}, split {recipe.data.split}{number}", recipe.data.options
    if side := _cropped_to(recipe):
        yield "pictures", f"their central squares, of {side} x {side} pixels", {}
    labels, method = recipe.data.labels, registry.find_method(recipe.method.name)
    if labels or method.labels:
        yield "labels", ", ".join(_labels(labels or Labels(), recipe)) or "all that there are", {}
    yield "backbone", recipe.backbone.name, recipe.backbone.options
    if recipe.init_from:
        yield "begins with", recipe.init_from, {}
    yield "method", recipe.method.name, recipe.method.options
    yield "optimizer", ", ".join(_update(optimizer)), {}
    rate = f"{recipe.scaled_learning_rate:.4g}"
    if optimizer.per:
        rate += f" (= {words_of(optimizer.learning_rate)} x {training.batch_size} / {optimizer.per})"
    if optimizer.warmup_epochs:
        rate += f", warm-up of {optimizer.warmup_epochs:g} epoch" + "s" * (optimizer.warmup_epochs != 1)
    own = isinstance(optimizer.learning_rate, Schedule)
    rate += f", {words_of(optimizer.learning_rate) if own else optimizer.schedule}"
    if optimizer.milestones:
        rate += f" x {optimizer.drop:g} at epochs {', '.join(map(str, optimizer.milestones))}"
    yield "learning rate", rate, {}
    batch = f"{training.batch_size} examples"
    if training.devices:
        batch += f", {training.batch_size // training.devices} on each of {training.devices} devices"
    if training.accumulate > 1:
        batch += f", in {training.accumulate} parts one after the other"
    yield "batch", batch, {}
    yield "steps", _steps(recipe, examples), {}
    xla = "auto" if training.jit_compile == "auto" else "on" if training.jit_compile else "off"
    yield "strategy", f"{training.strategy}, {training.precision}, XLA {xla}", {}
    probes = [
        f"{evaluation.knn.k} nearest neighbours" if evaluation.knn else "",
        "linear probe" if evaluation.linear else "",
        f"linear probe on {evaluation.low_shot} labels per class" if evaluation.linear and evaluation.low_shot else "",
    ]
    tested = f"{evaluation.data.name}, split {evaluation.data.split}" if evaluation.data else "the dataset's split test"
    tested += f", at most {evaluation.max_test:,} examples" if evaluation.max_test else ""
    learnt = f"{evaluation.train.name}, split {evaluation.train.split}" if evaluation.train else ""
    learnt += f"{', ' if learnt else ''}at most {evaluation.max_train:,} examples" if evaluation.max_train else ""
    tested += f"; learnt from {learnt}" if learnt else ""
    yield "evaluation", f"{', '.join(filter(None, probes))}, on {tested}" if any(probes) else "none", {}
    yield "export", ", ".join(recipe.export.formats) or "none", {}


def _update(optimizer: Optimizer) -> Iterator[str]:
    """What of the update rule applies."""
    yield optimizer.name
    if optimizer.name in ("sgd", "lars"):
        nesterov = "Nesterov's " if optimizer.nesterov and optimizer.name == "sgd" else ""
        yield f"{nesterov}momentum {optimizer.momentum:g}"
    if max(bounds_of(optimizer.weight_decay)) > 0:
        scope = " of all parameters" if optimizer.decay_scope == "all" else ""
        yield f"{optimizer.kind_of_decay} weight decay {words_of(optimizer.weight_decay)}{scope}"
    else:
        yield "no weight decay"
    if optimizer.clip_norm:
        yield f"gradient of norm {optimizer.clip_norm:g} at most"
    if optimizer.clip_tensor_norm:
        yield f"gradient of each variable of norm {optimizer.clip_tensor_norm:g} at most"


def _cropped_to(recipe: Recipe) -> int | None:
    """The side of the squares that the pictures of a folder, or of a prepared dataset, are cut and resized to."""
    return recipe.data.options.get("size") if recipe.data.name.startswith(("folder:", "tfds:")) else None


def _labels(labels: Labels, recipe: Recipe) -> Iterator[str]:
    if labels.per_class or labels.fraction:
        what = f"{labels.per_class:,}" if labels.per_class else f"{labels.fraction:.3g}"
        yield f"{what} of each class are shown to the method, chosen by seed {recipe.seed}"
    if labels.share:
        yield ("all" if labels.share == 1 else f"{labels.share:.3g}") + " of each batch are labelled"


def _steps(recipe: Recipe, examples: int | None) -> str:
    training = recipe.train
    epochs = f"{training.epochs} epoch" + "s" * (training.epochs != 1)
    steps = steps_per_epoch(recipe, examples) if examples else training.steps_per_epoch
    told = f"{epochs} x {steps} = {training.epochs * steps:,}" if steps else epochs
    if examples and training.steps_per_epoch not in (None, examples // training.batch_size):
        told += f": by steps_per_epoch that is {passes(recipe, examples):.3g} passes over the examples"
    return told


def _flat(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Options as (dotted name, value), without those that are left open."""
    for name, value in options.items():
        if value is None:
            continue
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
