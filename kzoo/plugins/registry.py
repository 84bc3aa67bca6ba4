"""From a registered name to its record, and from the record to the code it names.

Listing and checking touch records only; `resolve`, `build_method` and `build_backbone` import the plugin's code.
"""

import json
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kzoo.errors import OptionsError, PluginError
from kzoo.options import FolderOptions, ImageOptions, Options, TFDSOptions, place
from kzoo.plugins.formats import FORMATS, require_installed
from kzoo.plugins.load import Kind, PluginRecord, Provided, describe, load_plugins
from kzoo.specs import (
    BackboneSpec,
    CodeSpec,
    DataFacts,
    DatasetSpec,
    FormatSpec,
    MethodSpec,
    ModalitySpec,
    PresetSpec,
    Spec,
)
from kzoo.system import surroundings

if TYPE_CHECKING:
    import keras

    from kzoo.data.source import Source
    from kzoo.method import Method
    from kzoo.modality import Modality

_OBJECT = "should be a section, `key: value`"

# Datasets that need no plugin: what follows the colon says which. Plugins may bring more, under other prefixes.
_PREFIXES = {
    "tfds": DatasetSpec(
        name="tfds:<builder>",
        target="kzoo.data.prepared:tfds_source",
        options=TFDSOptions,
        summary="Any tensorflow-datasets builder that is already prepared on this machine",
        splits=(),
        source="tensorflow-datasets",
    ),
    "folder": DatasetSpec(
        name="folder:<path>",
        target="kzoo.folder.source:folder_source",
        options=FolderOptions,
        summary="A folder of images; sub-folders, where there are any, are the splits or the classes",
        splits=(),
        source="the folder",
        path=True,
    ),
}


# Plugins may bring more.
_MODALITIES = (
    ModalitySpec(name="image", key="image", target="kzoo.modalities.image:IMAGE", summary="Images, grey or colour"),
    ModalitySpec(name="text", key="tokens", target="kzoo.modalities.text:TEXT", summary="Passages of tokens"),
)


PLURALS: dict[Kind, str] = {
    "method": "methods",
    "backbone": "backbones",
    "dataset": "datasets",
    "modality": "modalities",
    "preset": "presets",
    "format": "formats",
}


class UnknownName(PluginError):
    """No working plugin has this name."""


def methods(pattern: str = "*") -> list[MethodSpec]:
    """The methods whose names match a wildcard pattern ("sim*"), by name; a name two plugins claim is left out."""
    return _listed("method", pattern)


def backbones(pattern: str = "*") -> list[BackboneSpec]:
    """The backbones whose names match a wildcard pattern, by name; a name two plugins claim is left out."""
    return _listed("backbone", pattern)


def datasets(pattern: str = "*") -> list[DatasetSpec]:
    """The datasets whose names match a wildcard pattern, by name; last come those of a prefix, `folder:<path>`."""
    named = [spec for spec in _listed("dataset", pattern) if ":" not in spec.name]
    return named + [spec for spec in _prefixes().values() if fnmatchcase(spec.name, pattern)]


def modalities(pattern: str = "*") -> list[ModalitySpec]:
    """The kinds of data whose names match a wildcard pattern: kzoo's own, then those of plugins, by name."""
    own = {spec.name for spec in _MODALITIES}
    brought = [spec for spec in _listed("modality", pattern) if spec.name not in own]
    return [spec for spec in _MODALITIES if fnmatchcase(spec.name, pattern)] + brought


def presets(pattern: str = "*") -> list[PresetSpec]:
    """The presets whose names match a wildcard pattern, by name; a name two plugins claim is left out."""
    return _listed("preset", pattern)


def formats(pattern: str = "*") -> list[FormatSpec]:
    """The formats of exports whose names match a wildcard pattern: kzoo's own, then those of plugins, by name."""
    own = {spec.name for spec in FORMATS}
    brought = [spec for spec in _listed("format", pattern) if spec.name not in own]
    return [spec for spec in FORMATS if fnmatchcase(spec.name, pattern)] + brought


def require_formats(names: Iterable[str]) -> None:
    """Raise PluginError where a format is unknown, or what it needs is not installed."""
    for name in names:
        require_installed(find_format(name))


def dataset_prefixes() -> list[str]:
    """How the names of datasets begin that say more after a colon: ["tfds:<builder>", "folder:<path>", ...]."""
    return [spec.name for spec in _prefixes().values()]


def conflicts(kind: Kind) -> dict[str, list[PluginRecord]]:
    """The names that several plugins yield, and those plugins. Such a name cannot be used."""
    claims: dict[str, list[PluginRecord]] = {}
    for provided in load_plugins().provided[kind]:
        claims.setdefault(_claim(provided.spec.name), []).append(provided.plugin)
    return {name: plugins for name, plugins in claims.items() if len(plugins) > 1}


def ambiguous(kind: Kind, name: str, plugins: list[PluginRecord]) -> str:
    """One line on a name that several plugins yield: which, and how to keep one."""
    claims = " and ".join(plugin.title for plugin in plugins)
    switches = " or ".join(f"KZOO_DISABLE_PLUGINS={plugin.name}" for plugin in plugins)
    return f"{kind} '{name}' is brought by {claims}; keep one: {switches}"


def find_method(name: str) -> MethodSpec:
    """The method's record. Raises PluginError where no plugin, or more than one, has it."""
    return _find("method", name).spec


def find_backbone(name: str) -> BackboneSpec:
    """The backbone's record. Raises PluginError where no plugin, or more than one, has it."""
    return _find("backbone", name).spec


def find_dataset(name: str) -> DatasetSpec:
    """The dataset's record, also of `folder:<path>` and the like. Raises PluginError where there is none.

    Those of `tfds:<builder>` and `folder:<path>` have `splits=()`: they are not known before the data is opened.
    """
    prefix, colon, rest = name.partition(":")
    known = _prefixes() if colon else {}
    if prefix in known:
        if not rest:
            raise PluginError(f"dataset '{name}' names nothing; write {known[prefix].name}")
        return known[prefix]
    if plugins := conflicts("dataset").get(prefix + colon) if colon else None:
        raise PluginError(ambiguous("dataset", name, plugins))
    return _find("dataset", name).spec


def find_modality(name: str) -> ModalitySpec:
    """The record of a kind of data. Raises PluginError where no plugin, or more than one, has it."""
    own = [spec for spec in _MODALITIES if spec.name == name]
    return own[0] if own else _find("modality", name).spec


def find_preset(name: str) -> PresetSpec:
    """The record of a trained backbone. Raises PluginError where no plugin, or more than one, has it."""
    return _find("preset", name).spec


def names_preset(text: str) -> bool:
    """Whether a text that names a preset or a folder names a preset: one that is there, or, where there is no such
    folder, one that is missing. A folder of a preset's name is "./name".
    """
    if any(provided.spec.name == text for provided in load_plugins().provided["preset"]):
        return True
    return bool(re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z0-9][a-z0-9_]*", text)) and not Path(text).exists()


def find_format(name: str) -> FormatSpec:
    """The record of a format of exports. Raises PluginError where there is none, or several plugins have it."""
    known = {spec.name: spec for spec in formats()}
    if name in known:
        return known[name]
    if name in conflicts("format"):
        return _find("format", name).spec  # says who has it
    raise UnknownName(
        f"unknown format '{name}'" + _missing() + (suggest(name, list(known)) or f"; known: {', '.join(known)}")
    )


def modality(name: str) -> "Modality":
    """A kind of data, with its code. Raises PluginError where no plugin brings it, or it cannot be imported."""
    return resolve(find_modality(name))


def modality_taking(key: str) -> "Modality":
    """The kind of data that a backbone takes whose input layer has this name; images where none has it."""
    return resolve(next((spec for spec in modalities() if spec.key == key), _MODALITIES[0]))


def find_any(name: str, others: Iterable[str] = ()) -> list[Spec]:
    """The records of this name, of any kind. Raises PluginError where there is none, or two plugins claim it.

    others: names of another kind that may have been meant, such as those of recipes.
    """
    found: list[Spec] = []
    unknown = []
    for find in (find_method, find_backbone, find_dataset, find_modality, find_preset, find_format):
        try:
            found.append(find(name))
        except UnknownName as error:
            unknown.append(error)
    if found:
        return found
    known = [spec.name for kind in (methods, backbones, datasets, modalities, presets) for spec in kind()]
    near = suggest(name, [*known, *others], most=3)
    raise UnknownName(f"unknown name '{name}'" + _missing() + (near or "; `kzoo list` names all that is installed"))


def callback_options(plugin: str) -> type[Options]:
    """The options of a plugin's callbacks. Raises PluginError where there is no such plugin, or it has none."""
    known = load_plugins().callback_options
    if plugin not in known:
        near = suggest(plugin, list(known)) or f"; known: {', '.join(sorted(known)) or 'none'}"
        raise PluginError(f"no plugin '{plugin}' whose callbacks take options{near}")
    return known[plugin]


def provider(spec: Spec) -> PluginRecord | None:
    """The plugin that yielded a record; None for kzoo's own."""
    for some in load_plugins().provided.values():
        for provided in some:
            if provided.spec is spec:
                return provided.plugin
    return None


def validate_options(spec: CodeSpec, values: Mapping[str, Any]) -> Options:
    """The checked options of a method, backbone or dataset. Raises OptionsError, one line for each problem."""
    try:
        return checked_options(spec, values)
    except ValidationError as error:
        raise OptionsError(
            [
                f"{spec.name}: {'.'.join(map(str, place(item)))}: {explain(item, spec.options)}"
                for item in complaints(error)
            ]
        ) from None


def checked_options(spec: CodeSpec, values: Mapping[str, Any] | str) -> Options:
    """The options from Python values, or strictly from JSON text. Raises pydantic's ValidationError.

    Raises PluginError where the class itself is wrong, which pydantic notices on first use.
    """
    try:
        if isinstance(values, str):
            return spec.options.model_validate_json(values, strict=True)
        return spec.options.model_validate(dict(values))
    except ValidationError:
        raise
    except Exception as error:
        raise PluginError(
            f"{_brought_by(spec)} has options that cannot be used: {describe(error)}; {_remedy(spec)}"
        ) from error


def resolve(spec: CodeSpec) -> Any:
    """Import what a record's target names. Raises PluginError, naming plugin and target, where that fails."""
    module, _, attribute = spec.target.partition(":")
    try:
        found = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin's module may do anything, sys.exit() too
        raise PluginError(
            f"{_brought_by(spec)} cannot be imported from '{spec.target}': {describe(error)}; {_remedy(spec)}"
        ) from error


def build_method(
    name: str, /, backbone: "keras.Model", *, data: "DataFacts | Source | None" = None, **options: Any
) -> "Method":
    """Build a registered method around a backbone.

    data: what is known of the data to learn from, a source or its `DataFacts`, for methods that remember each example,
        or learn from labels or words.
    options: the method's own, as `kzoo show NAME` lists them.
    Raises PluginError (no such method, or it cannot be imported) or OptionsError.
    """
    surroundings.refuse_by_hand()
    spec = find_method(name)
    checked = validate_options(spec, options)
    allowed = image_channels(spec, checked)
    if allowed and backbone.input_shape[-1] not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise OptionsError(
            [f"{name}: needs images of {wanted} channel(s); the backbone takes {backbone.input_shape[-1]}"]
        )
    known = DataFacts(modality=spec.modality) if data is None else data  # of a video method the backbone takes images
    return resolve(spec)(backbone, checked, data=known, name=spec.name.replace("/", "_"))


def image_channels(spec: MethodSpec, options: Options) -> tuple[int, ...]:
    """Numbers of image channels that a method can learn from under its options; () means any."""
    own = options.image_channels() if isinstance(options, ImageOptions) else None
    return spec.channels if own is None else own


def build_backbone(name: str, /, input_shape: tuple[int | None, ...], **options: Any) -> "keras.Model":
    """Build a registered backbone: a Functional `keras.Model`, float [B, *input_shape] in [0, 1] to named outputs.

    input_shape: (height, width, channels); height and width may be None where its record says `any_size`. Of text,
    (length, vocabulary size).
    options: the backbone's own, as `kzoo show NAME` lists them.
    Raises PluginError (no such backbone, or it cannot be imported) or OptionsError, for images that are too small too.
    """
    spec = find_backbone(name)
    checked = validate_options(spec, options)
    if small := too_small(spec, input_shape):
        raise OptionsError([small])
    surroundings.refuse_by_hand()
    return resolve(spec)(input_shape, checked)


def too_small(spec: BackboneSpec, input_shape: tuple[int | None, ...]) -> str:
    """Why images of this shape, (height, width, channels), are too small for a backbone; "" where they are not."""
    sides = [side for side in input_shape[-3:-1] if side is not None]
    if len(input_shape) < 3 or not sides or min(sides) >= spec.min_size:
        return ""
    size = " x ".join(map(str, sides))
    return f"images of {size} pixels are too small for '{spec.name}', which takes {spec.min_size} and up"


def open_dataset(name: str, /, split: str = "train", **options: Any) -> "Source":
    """Open a split of a registered dataset, or of one that is named by a prefix, as `folder:<path>`.

    options: the dataset's own, as `kzoo show NAME` lists them.
    Raises PluginError (no such dataset, or it cannot be imported), OptionsError, or DataError (no such split or files).
    """
    spec = find_dataset(name)
    checked = validate_options(spec, options)
    _, colon, rest = name.partition(":")
    return resolve(spec)(rest, split, checked) if colon else resolve(spec)(split, checked)


def complaints(error: ValidationError) -> list[Any]:
    """Pydantic's complaints about a model, without those that only follow from others: it counts what is left of a list
    after the wrong items are gone.
    """
    items = error.errors(include_url=False)
    return [
        item
        for item in items
        if item["type"] != "too_short"
        or not any(other["loc"][:-1] == item["loc"] for other in items if other is not item)
    ]


def explain(item: Any, model: type) -> str:
    """One of pydantic's complaints about a model, as one line.

    An unknown key comes with the nearest known one, a wrong value with what was received, written as in a recipe.
    """
    if item["type"] == "extra_forbidden":
        known = _keys_at(model, place(item)[:-1])
        return "unknown key" + (suggest(str(item["loc"][-1]), known) or f"; known: {', '.join(known) or 'none'}")
    if item["type"] == "missing":
        return "missing"
    if item["type"] == "value_error":
        return item["msg"].removeprefix("Value error, ")
    message = _OBJECT if item["type"] in ("model_type", "dict_type") else item["msg"].removeprefix("Input ")
    received = json.dumps(item["input"], default=str)
    return f"{message}; received {received if len(received) <= 60 else received[:57] + '...'}"


def suggest(word: str, known: list[str], most: int = 1) -> str:
    """ "; did you mean 'x'?" where a known word is near, else "". most: how many are named: "'x', 'y' or 'z'"."""
    near = get_close_matches(word, known, n=most)
    if most > 1 and len(word) > 2:  # "vit" is not near "vit_tiny" by its letters, and is meant
        near = near or [other for other in known if other.rpartition("/")[2].startswith(word)][:most]
    *others, last = [f"'{name}'" for name in near] or [""]
    return f"; did you mean {', '.join(others)}{' or ' * bool(others)}{last}?" if last else ""


def _brought_by(spec: Spec) -> str:
    plugin = provider(spec)
    return f"'{spec.name}' of {plugin.title}" if plugin else f"'{spec.name}'"


def _remedy(spec: Spec) -> str:
    plugin = provider(spec)
    return f"pip install --upgrade {(plugin and plugin.distribution) or 'kzoo'}"


def _keys_at(model: Any, path: tuple[Any, ...]) -> list[str]:
    """The keys a model knows at a path of its own fields; [] where the path leads out of its fields."""
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        # `Section | None` is as good as Section: its keys are what the user may have meant
        candidates = getattr(field.annotation, "__args__", (field.annotation,)) if field else ()
        model = next((candidate for candidate in candidates if hasattr(candidate, "model_fields")), None)
    return list(getattr(model, "model_fields", {}))


def _listed(kind: Kind, pattern: str) -> list:
    ambiguous = conflicts(kind)
    specs = [provided.spec for provided in load_plugins().provided[kind]]
    return [spec for spec in specs if _claim(spec.name) not in ambiguous and fnmatchcase(spec.name, pattern)]


def _prefixes() -> dict[str, DatasetSpec]:
    """The datasets named by a prefix, by that prefix: kzoo's own, and those that one plugin brings."""
    brought = [spec for spec in _listed("dataset", "*") if ":" in spec.name]
    return _PREFIXES | {spec.name.partition(":")[0]: spec for spec in brought}


def _claim(name: str) -> str:
    """What of a name two plugins may not both bring: "text:<path>" and "text:<file>" are one."""
    return name.partition("<")[0]


def _find(kind: Kind, name: str) -> Provided:
    plugins = load_plugins()
    found = [provided for provided in plugins.provided[kind] if provided.spec.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise PluginError(ambiguous(kind, name, [provided.plugin for provided in found]))
    others = [other for other, some in plugins.provided.items() if any(name == provided.spec.name for provided in some)]
    if others:
        raise UnknownName(f"unknown {kind} '{name}'; that is a {others[0]}")
    near = suggest(name, [provided.spec.name for provided in plugins.provided[kind]])
    raise UnknownName(
        f"unknown {kind} '{name}'" + _missing() + (near or f"; `kzoo list {PLURALS[kind]}` names those installed")
    )


def _missing() -> str:
    """What to add to "unknown name": the plugins that may have it and were not loaded."""
    plugins = load_plugins()
    message = ""
    if len(plugins.broken) == 1:
        [record] = plugins.broken
        message = f"; {record.title} may bring it but is broken: {record.problem}; {record.remedy}"
    elif plugins.broken:
        names = ", ".join(record.name for record in plugins.broken)
        message = f"; broken plugins may bring it: {names}; `kzoo list plugins` says what to do"
    disabled = [record.name for record in plugins.records if record.disabled]
    return message + (f"; switched off: {', '.join(disabled)}" if disabled else "")
