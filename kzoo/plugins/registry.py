"""From a name to the record that a plugin, or kzoo itself, has registered under it. No plugin's code is imported."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from kzoo.errors import PluginError
from kzoo.options import FolderOptions, Options, TFDSOptions
from kzoo.plugins.explain import suggest
from kzoo.plugins.formats import FORMATS, require_installed
from kzoo.plugins.load import Kind, PluginRecord, Provided, load_plugins
from kzoo.specs import (
    BackboneSpec,
    DatasetSpec,
    FormatSpec,
    MethodSpec,
    ModalitySpec,
    PresetSpec,
    Spec,
)

if TYPE_CHECKING:
    pass

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
OWN_MODALITIES = (
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
    own = {spec.name for spec in OWN_MODALITIES}
    brought = [spec for spec in _listed("modality", pattern) if spec.name not in own]
    return [spec for spec in OWN_MODALITIES if fnmatchcase(spec.name, pattern)] + brought


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
    own = [spec for spec in OWN_MODALITIES if spec.name == name]
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
