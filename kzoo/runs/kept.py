"""The trained backbone that a run, an export and a preset keep as a Keras model. Found and verified without TensorFlow.

<run>/backbone.keras      <export>/<version>/assets.extra/backbone.keras      the weights of a preset
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kzoo.errors import BackboneError
from kzoo.export import layout
from kzoo.plugins import registry
from kzoo.plugins.locate import resource
from kzoo.runs.presets import find_weights
from kzoo.system.files import read_json, sha256

MODEL = layout.MODEL.name


@dataclass(frozen=True)
class Kept:
    """A backbone that can be loaded.

    place: the run, or the version folder of the export; or the name of the preset. path: the Keras model.
    input: what it takes: "shape", of one example; of text the "vocabulary".
    made_from: "sha256" of the file, and of which training it is: `kzoo.runs.provenance.Origin`.
    """

    place: str
    path: Path
    made_from: dict[str, Any]
    input: dict[str, Any]
    preset: bool = False

    @property
    def title(self) -> str:
        """How it is written down: the name of a preset, else the folder from the root."""
        return self.place if self.preset else str(Path(self.place).absolute())


def find_kept(place: str | Path) -> Kept:
    """The backbone that a run, an export or a preset keeps, its file verified by its SHA-256.

    place: the folder of a run, of an export's version, or of an export, whose newest version is taken; or the name of a
        preset, whose weights are downloaded where they are not here.
    Raises BackboneError: none of these, or the file is missing or not the one that was written; PluginError where the
    preset is missing.
    """
    if registry.names_preset(str(place)):
        return _of_preset(str(place))
    given = place = Path(place)
    if not place.is_dir():
        raise BackboneError(f"{given}: no such folder; name that of a run or an export, or a preset")
    versions = [path for path in place.iterdir() if path.name.isdecimal() and (path / layout.METADATA).is_file()]
    if versions:
        place = max(versions, key=lambda path: int(path.name))
    if (place / layout.METADATA).is_file():
        metadata = read_json(place / layout.METADATA)
        path, made_from = place / layout.MODEL, dict(metadata.get("made_from") or {})
        takes = dict(metadata.get("input") or {})
        if "height" in takes:
            takes["shape"] = [takes["height"], takes["width"], takes["channels"]]
        known = (metadata.get("sha256") or {}).get(layout.MODEL.as_posix())
        remedy = "export it again with `kzoo export`"
    elif (place / "recipe.yaml").is_file():
        record = read_json(place / "kzoo.json")
        path, made_from, takes = place / MODEL, dict(record.get("model") or {}), dict(record.get("input") or {})
        known, remedy = made_from.get("sha256"), "make it with `kzoo evaluate`, which needs the data of the run"
    else:
        raise BackboneError(f"{given}: neither a run nor an export; name a folder that kzoo train or kzoo export made")
    if known is None or not path.is_file():
        raise BackboneError(f"{path}: missing; {remedy}")
    if sha256(path) != known:
        raise BackboneError(f"{path}: is not the file that was written, by its SHA-256; {remedy}")
    return Kept(str(place), path, {**made_from, "sha256": known}, takes)


def _of_preset(name: str) -> Kept:
    spec = registry.find_preset(name)
    takes: dict[str, Any] = {"shape": list(spec.input_shape)}
    if spec.vocabulary:
        takes["vocabulary"] = json.loads(resource(spec.vocabulary).read_text("utf-8"))
    return Kept(spec.name, find_weights(spec), {"sha256": spec.sha256}, takes, preset=True)
