"""A recipe against the registry: do its names exist, do their options hold, do the parts fit each other?"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from kzoo.errors import PluginError
from kzoo.options import place
from kzoo.plugins import registry, targets
from kzoo.plugins.explain import complaints, explain, suggest
from kzoo.recipe.document import Document, value_at
from kzoo.recipe.schema import Train, section_of
from kzoo.specs import BackboneSpec, CodeSpec, DatasetSpec, MethodSpec, lacks_labels, too_few

FIND: Mapping[str, Callable[[str], CodeSpec]] = {
    "method": registry.find_method,
    "backbone": registry.find_backbone,
    "data": registry.find_dataset,
    "evaluate.data": registry.find_dataset,
    "evaluate.train": registry.find_dataset,
}


DATASETS = ("data", "evaluate.data", "evaluate.train")


def find_quietly(section: str, name: Any) -> CodeSpec | None:
    try:
        return FIND[section](name) if isinstance(name, str) else None
    except PluginError:
        return None


def check_plugins(document: Document, begun: bool = False) -> dict[str, dict[str, Any]]:
    """Check the plugins a recipe names, their options, and that they fit each other; the full options by section.

    begun: what it began with is needed no more.
    """
    specs: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {}
    for section in FIND:
        spec = specs[section] = _check_name(document, section)
        checked = _check_options(document, section, spec) if spec else None
        if checked is not None:
            options[section] = checked
    method, backbone, data, test = (specs[key] for key in ("method", "backbone", "data", "evaluate.data"))
    learnt = specs["evaluate.train"]
    for section in DATASETS:
        if specs[section]:
            _check_split(document, section, specs[section])
    if method and backbone and backbone.modality == method.backbone_modality:
        _check_pair(document, method, backbone)
    for section, spec in (("backbone", backbone), ("data", data), ("evaluate.data", test), ("evaluate.train", learnt)):
        wanted = method and (method.backbone_modality if section == "backbone" else method.modality)
        if method and spec and spec.modality != wanted:
            message = f"'{spec.name}' is for {spec.modality}, method '{method.name}' for {wanted}"
            document.problem((*section.split("."), "name"), message)
    if learnt and not value_at(document.data, "evaluate.data"):
        document.problem(("evaluate", "data"), "missing; evaluate.train needs a split of the same classes to test on")
    if backbone:
        _check_features(document, backbone, method)
    if backbone and not begun:
        _check_initial(document, backbone, options.get("backbone"))
    if method and data and data.image_shape and "method" in options:
        allowed = targets.image_channels(method, targets.validate_options(method, options["method"]))
        if allowed and data.image_shape[2] not in allowed:
            wanted = " or ".join(map(str, allowed))
            message = f"'{data.name}' has {data.image_shape[2]} channel(s); method '{method.name}' needs {wanted}"
            document.problem(("data", "name"), message)
    if (
        method
        and data
        and data.splits
        and not data.classes
        and (method.labels or value_at(document.data, "data.labels"))
    ):
        document.problem(("data", "name"), lacks_labels(data.name, method))
    _check_formats(document)
    if backbone:
        _check_size(document, backbone, data, options)
    if method:
        _check_step(document, method)
    return options


def check_callbacks(document: Document) -> dict[str, dict[str, Any]]:
    """Check what the recipe tells plugins' callbacks; the full options by plugin."""
    given = document.data.get("callbacks")
    told: dict[str, Any] = given if isinstance(given, dict) else {}
    full: dict[str, dict[str, Any]] = {}
    for name, values in told.items():
        try:
            options = registry.callback_options(name)
        except PluginError as error:
            document.problem(("callbacks", name), str(error), plugin=True)
            continue
        if values is None:  # `my_logger:` with nothing after it
            values = told[name] = {}
        if not isinstance(values, dict):
            continue  # `_check_schema` says it
        try:
            full[name] = options.model_validate_json(json.dumps(values), strict=True).model_dump(mode="json")
        except ValidationError as error:
            for item in complaints(error):
                document.problem(("callbacks", name, *place(item)), explain(item, options))
    return full


def _check_name(document: Document, section: str) -> CodeSpec | None:
    """The record of what a section names, None where that is a problem or nothing."""
    name, path = value_at(document.data, f"{section}.name"), (*section.split("."), "name")
    if not isinstance(name, str):
        return None
    dataset = section in DATASETS
    prefixes = registry.dataset_prefixes() if dataset else []
    begins = tuple(prefix.partition("<")[0] for prefix in prefixes)
    if not name.startswith(begins) and any(mark in name for mark in ":.\\"):
        *most, last = ["a registered name", *(f"'{prefix}'" for prefix in prefixes)]
        allowed = ", ".join(most) + " or " * bool(most) + last
        document.problem(path, f"'{name}' is not {allowed}; a recipe never names code or files to import")
        return None
    try:
        return FIND[section](name)
    except PluginError as error:
        document.problem(path, str(error), plugin=True)
        return None


def _check_options(document: Document, section: str, spec: CodeSpec) -> dict[str, Any] | None:
    """All options of a section, defaults too, as plain data; None where there were problems."""
    owner, path = value_at(document.data, section), (*section.split("."), "options")
    if owner.get("options") is None:  # `options:` with nothing after it
        owner["options"] = {}
    if not isinstance(owner["options"], dict):
        return None
    try:
        return targets.checked_options(spec, json.dumps(owner["options"])).model_dump(mode="json")
    except PluginError as error:
        document.problem(path, str(error), plugin=True)
        return None
    except ValidationError as error:
        for item in complaints(error):
            document.problem((*path, *place(item)), explain(item, spec.options))
        return None


def _check_split(document: Document, section: str, spec: DatasetSpec) -> None:
    split = value_at(document.data, f"{section}.split") or "train"
    if spec.splits and isinstance(split, str) and split not in spec.splits:
        near = suggest(split, list(spec.splits))
        message = f"'{spec.name}' has no split '{split}'; it has {', '.join(spec.splits)}{near}"
        document.problem((*section.split("."), "split"), message)


def _check_features(document: Document, backbone: BackboneSpec, method: MethodSpec | None) -> None:
    wanted = value_at(document.data, "evaluate.features")
    owners: list[BackboneSpec | MethodSpec] = [backbone, *([method] if method and method.offers else [])]
    known = [output for owner in owners for output in owner.offers]
    for index, feature in enumerate(wanted if isinstance(wanted, list) else []):
        if isinstance(feature, str) and feature not in known:
            offered = "; ".join(f"'{owner.name}' offers {', '.join(owner.offers)}" for owner in owners)
            message = f"no output '{feature}'; {offered}{suggest(feature, known)}"
            document.problem(("evaluate", "features", index), message)


def _check_formats(document: Document) -> None:
    """Whether there are such formats; what they need may be missing where nothing is exported."""
    wanted = value_at(document.data, "export.formats")
    for index, name in enumerate(wanted if isinstance(wanted, list) else []):
        try:
            registry.find_format(name) if isinstance(name, str) else None
        except PluginError as error:
            document.problem(("export", "formats", index), str(error), plugin=True)


def _check_step(document: Document, method: MethodSpec) -> None:
    """Refuse a step that the method cannot make."""
    try:
        train = section_of(document.data, "train", Train)
    except ValidationError:
        return  # `_check_schema` says it
    if train.batch_size // train.accumulate < method.least_examples:
        message = too_few(method.name, train.batch_size, train.accumulate, method.least_examples)
        document.problem(("train", "batch_size"), message)
    if train.jit_compile is True and not method.xla:
        document.problem(("train", "jit_compile"), f"XLA cannot compile '{method.name}'; set auto or false")


def _check_pair(document: Document, method: MethodSpec, backbone: BackboneSpec) -> None:
    lacking = _lacking(method, backbone)
    if not lacking:
        return
    fitting = [
        other.name
        for other in registry.backbones()
        if other.modality == method.backbone_modality and not _lacking(method, other)
    ]
    known = ", ".join(fitting[:6]) + ", ..." * (len(fitting) > 6)
    can = [*backbone.offers, *backbone.abilities, *(["images of any size"] if backbone.any_size else [])]
    offered = ", ".join(can)
    document.problem(
        ("backbone", "name"),
        f"'{backbone.name}' offers {offered}; method '{method.name}' needs {', '.join(lacking)}; "
        + (f"backbones that have it: {known}" if known else "no installed backbone has it"),
    )


def _check_initial(document: Document, backbone: BackboneSpec, options: Mapping[str, Any] | None) -> None:
    """Refuse a preset that is missing, or that is another backbone; runs and exports are looked at when it trains."""
    name = value_at(document.data, "init_from")
    if not isinstance(name, str) or not registry.names_preset(name):
        return
    try:
        preset = registry.find_preset(name)
    except PluginError as error:
        document.problem(("init_from",), str(error), plugin=True)
        return
    if preset.backbone != backbone.name:
        document.problem(("init_from",), f"'{name}' is a '{preset.backbone}'; backbone.name is '{backbone.name}'")
        return
    for key, value in preset.backbone_options.items():
        if options and key in options and json.dumps(options[key]) != json.dumps(value):
            message = f"'{name}' has backbone.options.{key}={json.dumps(value)}; here it is {json.dumps(options[key])}"
            document.problem(("init_from",), message)


def _lacking(method: MethodSpec, backbone: BackboneSpec) -> list[str]:
    """What a method needs and a backbone does not offer."""
    outputs = [output for output in method.requires if output not in (*backbone.offers, *backbone.abilities)]
    return outputs + (["images of any size"] if method.any_size and not backbone.any_size else [])


def _check_size(document: Document, backbone: BackboneSpec, data: DatasetSpec | None, options: Mapping) -> None:
    """Refuse images smaller than the backbone takes: the method's views, else the dataset's, where known."""
    sizes = [(f"{section}.options.size", options.get(section, {}).get("size")) for section in ("method", "data")]
    if data and data.image_shape:
        sizes.append(("data.name", min(data.image_shape[:2])))
    key, size = next(((key, size) for key, size in sizes if isinstance(size, int)), ("", backbone.min_size))
    if size < backbone.min_size:
        message = f"images of {size} px are too small for '{backbone.name}', which takes {backbone.min_size} and up"
        document.problem(tuple(key.split(".")), message)
