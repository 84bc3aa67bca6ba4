"""The trained backbones that `kzoo pack` puts into a package: a folder each, `presets/<name>/`.

@kzoo.hookimpl
def kzoo_presets():
    yield from packed("kzoo_mine")
"""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from kzoo.plugins.locate import resource
from kzoo.specs import PresetSpec

FOLDER = "presets"
RECORD = "preset.json"
WEIGHTS = "backbone.keras"
RECIPE = "recipe.yaml"
ANSWERS = "answers.npz"
VOCABULARY = "vocabulary.json"

_KNOWN = {field.name for field in fields(PresetSpec)}
_FILES = {"weights": WEIGHTS, "recipe": RECIPE, "answers": ANSWERS, "vocabulary": VOCABULARY}


def packed(package: str) -> Iterator[PresetSpec]:
    """The records of a package's presets, by name. Raises ValueError, with the file, where one cannot be read."""
    for path in sorted(resource(f"{package}:{FOLDER}").glob(f"*/{RECORD}")):
        yield read(package, path)


def read(package: str, path: Path) -> PresetSpec:
    """The record in a file `<package>/presets/<name>/preset.json`. Raises ValueError where it cannot be read."""
    folder = path.parent
    inside = {
        what: f"{package}:{FOLDER}/{folder.name}/{name}"
        for what, name in _FILES.items()
        if what == "weights" or (folder / name).is_file()
    }
    try:
        written = json.loads(path.read_text("utf-8"))
        facts = {key: value for key, value in written.items() if key in _KNOWN}  # of the rest the card tells
        return PresetSpec(**{**inside, **facts, "input_shape": tuple(facts["input_shape"])})
    except Exception as error:
        raise ValueError(f"{path}: is not the record of a preset: {type(error).__name__}: {error}") from error
