"""`kzoo finetune`: a classifier that begins with a trained backbone, beside the same network from new weights.

Each is an ordinary run of the method `supervised`: its recipe is written into it, and it resumes as any other. Without
TensorFlow.
"""

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from ruamel.yaml import YAML

from kzoo.errors import BackboneError, DataError, EvaluationError, PluginError, RecipeError
from kzoo.export import layout
from kzoo.folder.census import image_census
from kzoo.options import FolderOptions, absolute
from kzoo.plugins import registry
from kzoo.recipe.load import load
from kzoo.recipe.schema import Recipe
from kzoo.runs.kept import Kept, find_kept
from kzoo.specs import lacks_labels
from kzoo.system.files import read_json

METHOD, BROUGHT_BY = "supervised", "kzoo-joint"
SCRATCH = "-from-scratch"
_BATCH, _EPOCHS = 32, 10  # at most so many; an epoch here is a stretch of steps: few labels would make very short ones
_PROBED = 10_000  # examples that the probes learn from, at most: here they are beside the point
_RATE, _HEAD_RATE = 1e-3, 1e-2  # of Adam; a lone linear layer takes larger steps


@dataclass(frozen=True)
class Wanted:
    """What the command was asked for. model: a run, an export or a preset. labels_per_class, fraction: none is all."""

    model: str
    data: str
    head_only: bool = False
    layer_decay: float = 1.0
    labels_per_class: int | None = None
    fraction: float | None = None
    steps: int = 300


@dataclass(frozen=True)
class Training:
    """One of the runs."""

    recipe: Recipe
    folder: Path


def trainings(wanted: Wanted, scratch: str, overrides: Iterable[str], run_dir: Path | None) -> list[Training]:
    """The runs to train: from the backbone, and from new weights, as `scratch` says: "beside" it, "only" that, or "no".

    Raises PluginError where the method is not installed, BackboneError where there is no such backbone, RecipeError,
    and DataError where the data have no labels, or nothing to test on.
    """
    if wanted.head_only and wanted.layer_decay != 1:
        raise RecipeError("--layer-decay: with --head-only no layer of the backbone learns; leave one of them out")
    try:
        registry.find_method(METHOD)
    except PluginError as error:
        raise PluginError(f"{error}; kzoo finetune trains it: pip install {BROUGHT_BY}") from None
    kept, overrides = find_kept(wanted.model), list(overrides)
    tuned = _load(_document(wanted, kept), overrides)
    _check_data(tuned, kept)
    folder = run_dir or Path("runs", tuned.name)
    found = [] if scratch == "only" else [Training(tuned, folder)]
    if scratch != "no":
        new = tuned.model_dump(mode="json")
        new["name"] = new["name"][: 64 - len(SCRATCH)] + SCRATCH
        new["init_from"] = None
        new["method"]["options"] |= {"backbone_rate": 1.0, "layer_decay": 1.0}
        new["optimizer"]["learning_rate"] = _RATE if wanted.head_only else new["optimizer"]["learning_rate"]
        if found:
            new["export"]["formats"] = []
            folder = folder.with_name(folder.name + SCRATCH)
        elif not run_dir:
            folder = Path("runs", new["name"])
        found.append(Training(Recipe.model_validate(new), folder))
    return found


def _load(document: dict[str, Any], overrides: Sequence[str]) -> Recipe:
    return load("kzoo finetune", overrides, json.dumps(document, indent=1))


def _document(wanted: Wanted, kept: Kept) -> dict[str, Any]:
    """The recipe as plain data, before what `--set` changes."""
    data: dict[str, Any] = {"name": wanted.data, "options": {}, "labels": {"share": 1.0}}
    data["labels"] |= {"per_class": wanted.labels_per_class, "fraction": wanted.fraction}
    options: dict[str, Any] = {"layer_decay": wanted.layer_decay} if wanted.layer_decay != 1 else {}
    options |= {"backbone_rate": 0.0} if wanted.head_only else {}
    spec, side = registry.find_dataset(wanted.data), (kept.input.get("shape") or [None])[0]
    before = _recipe_of(kept).get("data") or {}
    if before.get("name") == _absolute(wanted.data):  # the same split: nothing that is tested on was trained on
        data["options"] = {**before["options"]}
    if ":" in wanted.data and "size" in spec.options.model_fields:
        data["options"]["size"] = side
    elif side not in (spec.image_shape or ())[:1]:
        options["size"] = side
    epochs = max(count for count in range(1, _EPOCHS + 1) if wanted.steps % count == 0)
    return {
        "kzoo": 1,
        "name": _name(wanted.data),
        "data": data,
        "backbone": _backbone(kept),
        "method": {"name": METHOD, "options": options},
        "init_from": wanted.model,
        "optimizer": {
            "name": "adam",
            "learning_rate": _HEAD_RATE if wanted.head_only else _RATE,
            "weight_decay": 0.0,
            "warmup_epochs": 0 if wanted.head_only else epochs / 20,
        },
        "train": {
            "epochs": epochs,
            "steps_per_epoch": wanted.steps // epochs,
            "batch_size": _batch(wanted, spec, data["options"]),
        },
        "evaluate": {"low_shot": None, "max_train": _PROBED},
    }


def _backbone(kept: Kept) -> dict[str, Any]:
    """The backbone's name and options, as its preset or the recipe that trained it has them."""
    if kept.preset:
        spec = registry.find_preset(kept.place)
        return {"name": spec.backbone, "options": dict(spec.backbone_options)}
    recipe = _recipe_of(kept)
    try:
        return {"name": recipe["backbone"]["name"], "options": recipe["backbone"]["options"]}
    except (TypeError, KeyError):
        raise BackboneError(f"{kept.place}: does not say which backbone it holds; export its run again") from None


def _recipe_of(kept: Kept) -> dict[str, Any]:
    """The recipe that a run or an export was trained by, as plain data; {} where that is not known."""
    if kept.preset:
        return {}  # its package may have it; what it says of data is of another machine
    place = Path(kept.place)
    if (place / "recipe.yaml").is_file():
        return YAML(typ="safe", pure=True).load((place / "recipe.yaml").read_text("utf-8")) or {}
    return read_json(place / layout.METADATA).get("recipe") or {}


def _absolute(data: str) -> str:
    prefix, colon, path = data.partition(":")
    return f"{prefix}:{absolute(path)}" if colon and registry.find_dataset(data).path else data


def _name(data: str) -> str:
    """ "pets-finetuned" of "folder:/home/ada/pets"."""
    last = data.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', last).strip('-.') or 'classifier'}"[:54] + "-finetuned"


def _batch(wanted: Wanted, spec: Any, options: dict[str, Any]) -> int:
    """32, or all examples where they are fewer."""
    size = spec.sizes.get("train")
    if wanted.data.startswith("folder:"):
        with suppress(DataError):  # what --set says of the layout is not known yet
            size = len(image_census(wanted.data.partition(":")[2], FolderOptions(**options)).splits.get("train", ()))
    return min(_BATCH, size or _BATCH)


def _check_data(recipe: Recipe, kept: Kept) -> None:
    """Raise DataError where the data have no labels or no split to test on, as far as can be known from names, or are
    grey where the backbone takes colour.
    """
    method, data = registry.find_method(METHOD), recipe.data
    if not data.name.startswith("folder:"):  # else the recipe's checks know it
        shape, takes = registry.find_dataset(data.name).image_shape, kept.input.get("shape") or ()
        if shape and takes and shape[-1] != takes[-1]:
            words = {1: "grey", 3: "colour"}
            raise DataError(
                f"{data.name}: its images are {words.get(shape[-1], shape[-1])}, and the backbone of {kept.place} "
                f"takes {words.get(takes[-1], takes[-1])}; begin with another backbone"
            )
        return
    census = image_census(data.name.partition(":")[2], FolderOptions.model_validate(data.options))
    if not census.classes:
        raise DataError(f"{lacks_labels(data.name, method)}; put the labelled files into a folder for each class")
    census.find(data.split)
    if recipe.evaluate.data is None and "test" not in census.splits:
        raise DataError(
            f"{data.name}: has no split test, and the accuracy is that of examples that were not learnt from; name "
            f"what to test on: --set 'evaluate.data={{name: ..., split: ...}}'"
        )


@dataclass(frozen=True)
class _Found:
    """What a run found on the test split."""

    title: str
    accuracy: float
    probe: float | None
    examples: int
    chance: float | None


def tell(console: Console, runs: Sequence[Training]) -> None:
    """Print what the runs found, beside each other. Raises EvaluationError where a run has no accuracy."""
    found = [_found(run) for run in runs]
    console.print(table(found))
    console.print(_verdict(found), markup=False)


def _found(run: Training) -> _Found:
    report = read_json(run.folder / "evaluation.json")
    pretext, trained = report.get("pretext", {}), report.get("trained", {})
    accuracy = pretext.get("own", {}).get("test_accuracy")
    if accuracy is None:
        why = next(iter(pretext.get("failed", {}).values()), "its test split has no labels")
        raise EvaluationError(f"{run.folder}: has no accuracy: {why}; look at evaluation.json")
    return _Found(
        title=f"from {run.recipe.init_from}" if run.recipe.init_from else "from scratch",
        accuracy=accuracy,
        probe=trained.get("linear_probe", {}).get("test_accuracy"),
        examples=trained.get("labelled_test_examples", 0),
        chance=(trained.get("chance") or {}).get("accuracy"),
    )


def table(found: Sequence[_Found]) -> Table:
    """For the terminal: a row for each run."""
    shown = Table(title="The classifier", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("on the test split", overflow="fold")
    shown.add_column("accuracy", justify="right")
    shown.add_column("linear probe", justify="right")
    for one in found:
        shown.add_row(escape(one.title), f"{one.accuracy:.1%}", "" if one.probe is None else f"{one.probe:.1%}")
    if found[0].chance is not None:
        shown.add_row("by chance", f"{found[0].chance:.1%}", "")
    return shown


def _verdict(found: Sequence[_Found]) -> str:
    """In words: whether the trained weights helped, beyond two standard errors of accuracies on that many examples."""
    examples = (
        f"{found[0].examples:,} test examples. The probe learns from all labels of the train split, up to 10,000."
    )
    if len(found) < 2:
        return examples
    tuned, scratch = found
    gain = tuned.accuracy - scratch.accuracy
    variances = sum(one.accuracy * (1 - one.accuracy) / max(1, one.examples) for one in found)
    noise = ", within noise" if abs(gain) < 2 * variances**0.5 else ""
    says = "better than" if gain > 0 else "worse than" if gain < 0 else "equal to"
    return f"{100 * gain:+.1f}: {says} the same network from scratch at equal steps{noise}, on {examples}"
