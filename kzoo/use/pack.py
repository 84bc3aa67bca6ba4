"""`kzoo pack`: a run becomes a package that brings its backbone as a preset, with its card, recipe, figures and checks.

It is a distribution of its own, or joins one that `kzoo pack` made before. `kzoo.presets` says what lies in it.
"""

import json
import re
import shutil
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kzoo import presets
from kzoo.errors import PackError, PluginError
from kzoo.plugins import registry
from kzoo.plugins.describe import changed_options
from kzoo.plugins.load import load_plugins
from kzoo.plugins.new import fill
from kzoo.recipe.schema import Data, Recipe, dump
from kzoo.runs.kept import Kept
from kzoo.runs.pretrained import answer, find_current, open_kept
from kzoo.runs.run import Run
from kzoo.specs import DatasetSpec, PresetSpec
from kzoo.system import disk
from kzoo.system.files import new_folder, read_json, write_json, write_text
from kzoo.use.card import card

_RECORDED = 4  # inputs
_FIGURES = ("data", "feature", "trained", "untrained", "verdict")  # of evaluation.json


@dataclass(frozen=True)
class Packed:
    """The folder of the distribution, and the preset in it. new: made now, not one that was there before."""

    distribution: Path
    spec: PresetSpec
    new: bool


def pack_run(folder: Path, into: Path, name: str = "", licence: str = "") -> Packed:
    """Pack the trained backbone of a run.

    into: a distribution that was packed before, which gains a preset; or any other folder, in which one is made.
    name: of the preset; by default `backbone.method_data`. licence: of the weights, an SPDX expression or any text.

    Raises PackError: the run has not been evaluated, or the name or the place cannot be used; then nothing is written.
    """
    run = Run(folder)
    recipe = shareable(run.recipe)
    name = name or default_name(recipe)
    if not re.fullmatch(r"([a-z][a-z0-9_]*/)?[a-z][a-z0-9_]*\.[a-z0-9][a-z0-9_]*", name):
        raise PackError(f"'{name}' cannot name a preset; write backbone.tag, for example {default_name(recipe)}")
    kept = find_current(folder)
    report = read_json(run.evaluation)
    if any((report.get("made_from") or {}).get(key) != kept.made_from[key] for key in ("step", "recipe_hash")):
        raise PackError(f"{run.evaluation}: is not of the weights that the run has; call `kzoo evaluate {folder}`")
    model = open_kept(kept)
    needed = requirements(recipe.backbone.name, kept.path)
    facts = _facts(run, recipe, kept, report, licence) | {"name": name}
    with disk.writing(into, PackError):
        if (into / "pyproject.toml").is_file():
            package = _package_of(into, needed)
            home = into / "src" / package / presets.FOLDER / folder_of(name)
            if home.exists():
                raise PackError(f"{home}: exists already; remove it, or choose another --name")
            with new_folder(home) as scratch:
                _write(scratch, facts, recipe, kept, model)
            return Packed(into, _read(package, home), new=False)
        distribution = "kzoo-" + re.sub(r"[^a-z0-9]+", "-", name)
        package, place = distribution.replace("-", "_"), into / distribution
        _refuse_taken(name, place)
        words = {
            "kzoo-newpreset": distribution,
            "newpreset": package.removeprefix("kzoo_"),
            "newname": name,
            '"newrequirements"': ", ".join(json.dumps(one) for one in needed),
            '"newlicence"': json.dumps(licence or "none given"),
        }
        with new_folder(place) as scratch:
            fill(scratch, "preset", words)
            if licence != "Apache-2.0":
                (scratch / "LICENSE").unlink()
            home = scratch / "src" / package / presets.FOLDER / folder_of(name)
            home.mkdir(parents=True)
            _write(home, facts, recipe, kept, model)
            shutil.copyfile(home / "README.md", scratch / "README.md")
        return Packed(place, _read(package, place / home.relative_to(scratch)), new=True)


def default_name(recipe: Recipe) -> str:
    """By custom: "small_resnet.simclr_digits"."""
    prefix, colon, path = recipe.data.name.partition(":")
    tag = f"{recipe.method.name}_{Path(path).name if colon else prefix}".lower()
    return f"{recipe.backbone.name}.{re.sub('[^a-z0-9]+', '_', tag).strip('_')}"


def folder_of(name: str) -> str:
    """A preset's folder: its name, whose slash, of a backbone from another library, no folder can have."""
    return name.replace("/", "-")


def shareable(recipe: Recipe) -> Recipe:
    """The recipe without paths of this machine: of the folder of data, or of a run it began with, the name stays."""
    changed: dict[str, Any] = {"data": _without_path(recipe.data)}
    chosen = {key: _without_path(data) for key in ("data", "train") if (data := getattr(recipe.evaluate, key))}
    changed["evaluate"] = recipe.evaluate.model_copy(update=chosen)
    if recipe.init_from and not registry.names_preset(recipe.init_from):
        changed["init_from"] = Path(recipe.init_from).name
    return recipe.model_copy(update=changed)


def _without_path(data: Data) -> Data:
    prefix, colon, path = data.name.partition(":")
    known = colon and registry.find_dataset(data.name).path
    return data.model_copy(update={"name": f"{prefix}:{Path(path).name}"}) if known else data


def requirements(backbone: str, path: Path) -> list[str]:
    """What a package needs whose Keras model lies at `path`: kzoo, and the plugins whose classes are in the model."""
    provider = registry.provider(registry.find_backbone(backbone))
    config = zipfile.ZipFile(path).read("config.json").decode()
    named = set(re.findall(r'"(?:registered_name|module)": "(\w+)[>.]', config))
    found = {
        record.distribution: record.version
        for record in load_plugins().records
        if record.ok and record.distribution and (record is provider or record.module.partition(".")[0] in named)
    }
    return ["kzoo>=0.1,<0.2", *(f"{name}>={version}" for name, version in sorted(found.items()))]


def _facts(run: Run, recipe: Recipe, kept: Kept, report: Mapping[str, Any], licence: str) -> dict[str, Any]:
    """What the record says, and besides what it was made with."""
    record, data = run.record, registry.find_dataset(run.recipe.data.name)
    examples, passes = report["trained"]["train_examples"], record.get("passes")
    length = f", {passes:.3g} passes over the examples" if passes else ""
    backbone = registry.find_backbone(recipe.backbone.name)
    figures = {key: report[key] for key in _FIGURES}
    for split, told in figures["data"].items():
        if isinstance(told, str) and ":" in told:
            figures["data"][split] = f"{told.partition(':')[0]}:{Path(told.partition(':')[2]).name}"
    return {
        "summary": f"{recipe.method.name} on {recipe.data.name}: {kept.made_from['step']:,} steps{length}",
        "backbone": recipe.backbone.name,
        "backbone_options": recipe.backbone.options,
        "method": recipe.method.name,
        "modality": backbone.modality,
        "input_shape": kept.input["shape"],
        "data": recipe.data.name,
        "data_options": _shape_of_data(data, recipe),
        "data_licence": data.licence,
        "licence": licence,
        "sha256": kept.made_from["sha256"],
        "size": kept.path.stat().st_size,
        "figures": figures,
        "made_from": {key: kept.made_from[key] for key in ("step", "recipe_hash", "data")},
        "made_with": {**record.get("versions", {}), **_plugins_of(recipe, record)},
        "examples": examples,
    }


def _shape_of_data(data: DatasetSpec, recipe: Recipe) -> dict[str, Any]:
    """The options without which the data would not fit the backbone: those that were set, but for their number."""
    changed = changed_options(data.options, recipe.data.options)
    return {key: value for key, value in changed.items() if key != "limit"}


def _plugins_of(recipe: Recipe, record: Mapping[str, Any]) -> dict[str, str]:
    """The versions, then, of the plugins that the recipe names."""
    named = (
        registry.find_method(recipe.method.name),
        registry.find_backbone(recipe.backbone.name),
        registry.find_dataset(recipe.data.name),
    )
    brought = {plugin.distribution for spec in named if (plugin := registry.provider(spec))}
    return {name: version for name, version in record.get("plugins", {}).items() if name in brought}


def _write(folder: Path, facts: dict[str, Any], recipe: Recipe, kept: Kept, model: keras.Model) -> None:
    """All that lies in the folder of a preset."""
    shutil.copyfile(kept.path, folder / presets.WEIGHTS)
    inputs = recorded_inputs(model, kept.input["shape"])
    with (folder / presets.ANSWERS).open("wb") as file:
        np.savez(file, inputs=inputs, embedding=answer(model, inputs))
    write_text(folder / presets.RECIPE, dump(recipe))
    if "vocabulary" in kept.input:
        write_json(folder / presets.VOCABULARY, kept.input["vocabulary"])
    write_json(folder / presets.RECORD, facts)
    write_text(folder / "README.md", card(facts))


def recorded_inputs(model: keras.Model, shape: list[int]) -> np.ndarray:
    """Inputs that are nobody's: blotches of all sizes, uint8 `[4, H, W, C]`; or tokens, int32 `[4, T]`, some padded.

    shape: of one input, (H, W, C); of text (T, V).
    """
    keys = np.random.default_rng(0)
    if "int" in str(model.inputs[0].dtype):
        length, vocabulary = shape
        tokens = keys.integers(1, vocabulary, (_RECORDED, length), dtype=np.int32)
        tokens[_RECORDED // 2 :, length // 2 :] = 0
        return tokens
    waves = keys.normal(size=(_RECORDED, *shape))
    for axis in (1, 2):
        waves = waves + np.cumsum(waves, axis)
    low, high = waves.min((1, 2), keepdims=True), waves.max((1, 2), keepdims=True)
    return np.round(255 * (waves - low) / (high - low)).astype(np.uint8)


def _package_of(into: Path, needed: list[str]) -> str:
    """The package of a distribution that has presets. Raises PackError where it has none, or lacks a requirement."""
    path = into / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text("utf-8"))["project"]
        [module] = project["entry-points"]["kzoo"].values()
        package = module.partition(".")[0]
        there = (into / "src" / package / presets.FOLDER).is_dir()
    except (tomllib.TOMLDecodeError, KeyError, ValueError) as error:
        raise PackError(f"{path}: is not that of a package of presets; choose another --into") from error
    if not there:
        raise PackError(f"{path}: is not that of a package of presets; choose another --into")
    has = {canonicalize_name(Requirement(text).name) for text in project.get("dependencies", [])}
    for text in needed:
        if canonicalize_name(Requirement(text).name) not in has:
            raise PackError(f'{path}: dependencies lack "{text}", which the preset needs; add it')
    return package


def _refuse_taken(name: str, place: Path) -> None:
    if place.exists():
        raise PackError(f"{place}: exists already; remove it, or choose another --name")
    try:
        spec = registry.find_preset(name)
    except PluginError:
        return
    plugin = registry.provider(spec)
    raise PackError(f"'{name}' is taken: {plugin.title if plugin else 'kzoo'} brings it; choose another --name")


def _read(package: str, home: Path) -> PresetSpec:
    return presets.read(package, home / presets.RECORD)
