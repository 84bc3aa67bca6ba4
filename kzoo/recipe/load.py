"""A recipe: the YAML file that names a dataset, a backbone, a method and the training settings. Inert text.

`load` tells every problem at once, each as one line `file:line: key: what`, without importing TensorFlow. Plugins are
named by their registered names only, YAML tags, anchors and aliases are refused: reading a recipe never runs code and
cannot blow up.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

import kzoo
from kzoo.options import absolute, place
from kzoo.plugins import registry
from kzoo.plugins.explain import complaints, explain
from kzoo.recipe.checks import DATASETS, FIND, check_callbacks, check_plugins, find_quietly
from kzoo.recipe.document import Document, value_at
from kzoo.recipe.schema import FORMAT, Optimizer, Recipe, Train, section_of
from kzoo.schedules import Schedule


def load(path: str | Path, overrides: Iterable[str] = (), text: str | None = None, *, begun: bool = False) -> Recipe:
    """Read and check a recipe, with every default and every plugin option filled in.

    text: the recipe, where it is in no file; path is then what messages call it.
    overrides: `"method.options.temperature=0.1"`, the value read as YAML; they win over the file. Those that put in
        another method, and no other `name`, add it to the name: "quickstart-rotation".
    begun: it is the recipe of a run, which needs no more what it began with.
    Raises RecipeError with all problems at once, or PluginError where the only problems are plugins that are missing,
    broken or ambiguous.
    """
    document = Document(str(path))
    if not (document.read() if text is None else document.parse(text)):
        document.refuse()
    method = value_at(document.data, "method.name")
    for override in overrides:
        document.override(override)
    _name_anew(document, method)
    options, callbacks = check_plugins(document, begun), check_callbacks(document)
    recipe = _check_schema(document)
    document.refuse()
    filled = cast(Recipe, recipe).model_dump(mode="json")
    if filled["init_from"] and not (begun or registry.names_preset(filled["init_from"])):
        filled["init_from"] = absolute(filled["init_from"])
    filled["callbacks"] = callbacks
    for section, values in options.items():
        named = value_at(filled, section)
        named["options"] = values
        if section in DATASETS and registry.find_dataset(named["name"]).path:
            prefix, _, rest = named["name"].partition(":")
            named["name"] = f"{prefix}:{absolute(rest)}"
    return Recipe.model_validate_json(json.dumps(filled))


def _name_anew(document: Document, before: Any) -> None:
    """Add the method that overrides put in to the recipe's name: it makes another run, and another export."""
    name, method = document.data.get("name"), value_at(document.data, "method.name")
    if ("name",) in document.overrides or method == before or not (isinstance(name, str) and isinstance(method, str)):
        return
    document.data["name"] = f"{name}-{re.sub(r'[^A-Za-z0-9._-]+', '-', method)}"[:64]


def _check_schema(document: Document) -> Recipe | None:
    """Check keys, types and ranges, then what single fields cannot say. None where keys, types or ranges are wrong."""
    recipe, broken = None, set()
    try:
        # through JSON, because there "strict" means: a list may be a tuple, but "3" is not 3, and true is not 1
        recipe = Recipe.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        for item in complaints(error):
            broken.add(item["loc"][0])
            document.problem(place(item), _advice(document, item) or explain(item, Recipe))
    optimizer = None if "optimizer" in broken else section_of(document.data, "optimizer", Optimizer)
    train = None if "train" in broken else section_of(document.data, "train", Train)
    if optimizer:
        for key, message in _optimizer_problems(optimizer, train.epochs if train else None):
            document.problem(("optimizer", key), message)
    if train:
        for key, message in _train_problems(train):
            document.problem(("train", key), message)
    return recipe


def _advice(document: Document, item: Any) -> str:
    """Better words than the schema's own, where a recipe's author can be told more."""
    *sections, key = map(str, item["loc"])
    if item["loc"] == ("kzoo",):
        received = json.dumps(item["input"])
        return f"this kzoo {kzoo.__version__} reads format {FORMAT}; received {received}; pip install --upgrade kzoo"
    if item["loc"] == ("name",) and item["type"] == "missing":
        return "missing; it names the run's folder"
    if item["loc"] == ("name",) and item["type"] == "string_pattern_mismatch":
        return f"{json.dumps(item['input'])} cannot name a folder; use letters, digits, '.', '_' and '-', 64 at most"
    if item["type"] == "missing":
        kind = "dataset" if "data" in item["loc"] else item["loc"][0]
        return f"missing; `kzoo list {kind}s` names those installed"
    if item["type"] == "extra_forbidden":
        owner = ".".join(sections)
        spec = find_quietly(owner, value_at(document.data, f"{owner}.name")) if owner in FIND else None
        if spec and key in spec.options.model_fields:
            return f"unknown key; did you mean '{owner}.options.{key}'?"
        homes = [
            name for name, info in Recipe.model_fields.items() if key in getattr(info.annotation, "model_fields", {})
        ]
        if len(homes) == 1 and homes != sections:
            return f"unknown key; did you mean '{homes[0]}.{key}'?"
        if sections and key in Recipe.model_fields:
            return f"unknown key; did you mean '{key}', outside '{owner}'?"
    return ""


def _optimizer_problems(optimizer: Optimizer, epochs: int | None) -> Iterator[tuple[str, str]]:
    """What no single field can say: (key, what is wrong). epochs: of the training, None where that is not known."""
    if optimizer.name != "sgd" and "learning_rate" not in optimizer.model_fields_set:
        yield "learning_rate", f"missing; only sgd has a default, {optimizer.name} needs its own"
    if optimizer.name == "adamw" and optimizer.decay == "coupled":
        yield "decay", "adamw is decoupled by definition; coupled decay is `name: adam`"
    belongs = {
        "nesterov": ("sgd",),
        "trust_coefficient": ("lars",),
        "beta_1": ("adam", "adamw"),
        "beta_2": ("adam", "adamw"),
    }
    for key, names in belongs.items():
        if optimizer.name not in names and getattr(optimizer, key) != Optimizer.model_fields[key].default:
            yield key, f"only {' and '.join(names)} can use it, not {optimizer.name}"
    if epochs and optimizer.warmup_epochs > epochs:
        yield "warmup_epochs", f"{optimizer.warmup_epochs:g} is more than train.epochs, {epochs}"
    if isinstance(optimizer.learning_rate, Schedule):
        for key in ("schedule", "warmup_epochs", "milestones", "drop", "final"):
            if getattr(optimizer, key) != Optimizer.model_fields[key].default:
                yield key, "learning_rate is a schedule and says this itself"
        return
    milestones = list(optimizer.milestones)
    if optimizer.schedule == "step" and not milestones:
        yield "milestones", "missing; schedule step drops the learning rate at these epochs"
    elif optimizer.schedule != "step" and milestones:
        yield "milestones", f"only schedule step can use it, not {optimizer.schedule}"
    elif milestones != sorted({epoch for epoch in milestones if 0 < epoch < (epochs or epoch + 1)}):
        yield "milestones", f"expected rising epochs between 0 and {epochs or 'the last'}; received {milestones}"


def _train_problems(train: Train) -> Iterator[tuple[str, str]]:
    """What no single field can say: (key, what is wrong)."""
    if train.strategy == "single" and (train.devices or 1) > 1:
        yield "devices", f"strategy single uses one device; received {train.devices}; use mirrored"
    parts = (train.devices or 1) * train.accumulate
    if train.batch_size % parts:
        devices = f"{train.devices} devices" if train.devices else ""
        pieces = f"{train.accumulate} accumulated parts" if train.accumulate > 1 else ""
        over = " x ".join(filter(None, (devices, pieces)))
        yield "batch_size", f"{train.batch_size} does not divide over {over}; take a multiple of {parts}"
