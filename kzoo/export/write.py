"""A trained backbone written for others: in the formats that are asked for, each proven, with its card and contract.

<directory>/<name>/<version>/   saved_model.pb  variables/  model.tflite  model.onnx  model.xml  model.bin
                                README.md  contract.json  recorded.npz  figures/  assets.extra/backbone.keras
"""

import errno
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.errors import ExportError
from kzoo.export import card
from kzoo.export.contract import write_contract
from kzoo.export.formats import Exportable
from kzoo.export.layout import CARD, FIGURES, MODEL, RECORDED
from kzoo.export.proof import LIMIT, prove
from kzoo.export.saved_model import recorded_answers
from kzoo.modality import Signature
from kzoo.plugins import registry, targets
from kzoo.plugins.formats import runtime_version
from kzoo.specs import FormatSpec
from kzoo.system.failures import short
from kzoo.system.files import new_folder, sweep_dead

SAVED_MODEL = "saved_model"


def export_backbone(
    backbone: keras.Model,
    directory: Path,
    *,
    name: str,
    metadata: Mapping[str, Any],
    size: tuple[int, ...] | None = None,
    vocabulary: Sequence[str] = (),
    signatures: Mapping[str, Signature] | None = None,
    bits: int = 16,
    formats: Sequence[str] = (SAVED_MODEL,),
    pictures: Sequence[Path] = (),
) -> Path:
    """Write the backbone to the next free version folder, `directory/name/<integer>`, and return that folder.

    Two signatures are always there (H, W, C are the backbone's input size, D its embedding width):
    `serving_default {image: uint8 [None,H,W,C]} -> {embedding: float32 [None,D]}` and
    `serve_bytes {image_bytes: string [None]} -> {embedding: float32 [None,D]}` for JPEG and PNG files, read as
    `kzoo.folder.read_image` reads them for training (see `kzoo.export.preprocess`); others are refused by name. A
    backbone of text has the one signature `serving_default {tokens: int32 [None,T]} -> {embedding: float32 [None,D]}`;
    the vocabulary is in its contract. Formats beside the SavedModel hold `serving_default` alone.

    The folder is written beside, checked and renamed: a reader never sees half of it, a failed export leaves nothing,
    nothing is overwritten, and two exporters get two versions. What an exporter that was killed left beside them is
    removed. A format that is not available for this backbone, or that does not return what the backbone returns, is
    left out; the contract says why under `formats`. Without the SavedModel, where that is asked for, or with none of
    the formats, nothing is written.

    Args:
        backbone: a built Functional model from float images in [0, 1], `[B,H,W,C]`, to a dict with "embedding" `[B,D]`.
        directory: made when missing. name: a plain folder name.
        size: (height, width) of the images to answer, for a backbone that takes any.
        vocabulary: of a backbone of text, what each token number stands for.
        metadata: JSON values for the contract beside what is known here. The card tells of "recipe", "made_from",
            "method", "trained_on", "evaluation" and "versions", where they are given: see `kzoo.export.card`.
        signatures: further outputs, each a function from float images in [0, 1], `[B,H,W,C]`, or int32 tokens `[B,T]`,
            to a dict of tensors; each is called over TensorFlow with the same input as `serving_default`.
        bits: that grey values wider than 8 bits use in the data, as `kzoo.folder.read_image` was told.
        formats: of `kzoo list formats`. pictures: files to show in the card.

    Raises:
        ExportError: the backbone is no image backbone of fixed size, the graph could do more than compute, or the
            loaded export does not return what the backbone returns.
        PluginError: there is no such format, or what it needs is not installed.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ExportError(
            f"export name {name!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    specs = [registry.find_format(one) for one in dict.fromkeys(formats)]
    registry.require_formats(spec.name for spec in specs)
    served = targets.modality_taking(backbone.inputs[0].name).serve(
        backbone, size=size, vocabulary=vocabulary, bits=bits, further=dict(signatures or {})
    )
    exportable = Exportable(backbone, served, dict(signatures or {}))
    facts = {
        "name": name,
        "input": dict(served.facts),
        "embedding_width": int(backbone.output["embedding"].shape[-1]),
        "parameters": int(backbone.count_params()),
        "signatures": {key: _described(served.functions[key]) for key in sorted(served.functions)},
        "recorded": {"file": RECORDED.as_posix(), "inputs": [exportable.takes.name], "examples": len(served.samples)},
        "kzoo_version": version("kzoo"),
    }
    sweep_dead(Path(directory) / name)
    while True:
        target = _next_version(Path(directory) / name)
        try:
            with new_folder(target) as beside:
                _record(beside, exportable)
                _write_model(beside, backbone)
                written = {spec.name: _write_format(beside, exportable, spec) for spec in specs}
                if all("refused" in found for found in written.values()):
                    raise ExportError("; ".join(f"{key}: {found['refused']}" for key, found in written.items()))
                contract = {**metadata, **facts, "formats": written}
                (beside / CARD).write_text(card.render(contract, _copy(pictures, beside)), encoding="utf-8")
                write_contract(beside, contract)
            return target
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            # Another exporter took this version meanwhile: the next one is ours.


def _write_format(folder: Path, exportable: Exportable, spec: FormatSpec) -> dict[str, Any]:
    """Write one format and prove it. Returns what the contract says of it: "refused" alone, where it is not available.

    Raises ExportError for the SavedModel, which is available for every backbone that is sound.
    """
    before = set(folder.rglob("*"))
    try:
        found = targets.resolve(spec)(exportable, folder / spec.file)
        if "largest_error" not in found:
            found["largest_error"] = prove(folder, spec, [exportable.takes.name])
    except OSError:
        raise
    except Exception as error:
        if spec.name == SAVED_MODEL:
            raise
        for path in sorted(set(folder.rglob("*")) - before, reverse=True):  # what is inside first
            path.rmdir() if path.is_dir() else path.unlink()
        why = str(error).removeprefix(f"{spec.name}: ") if isinstance(error, ExportError) else short(error)
        return {"refused": why.replace(f"{folder}/", "")}  # the path is of this machine, and of no use to others
    read_by = f"{spec.runtime} {runtime_version(spec)}"
    return {"file": spec.file, "runtime": read_by, "limit": LIMIT, **found}


def _described(function: Any) -> dict[str, Any]:
    """Type and shape of what a traced function takes and returns, by name."""
    takes = {spec.name: spec for spec in tf.nest.flatten(function.structured_input_signature)}
    return {
        key: {name: {"type": one.dtype.name, "shape": one.shape.as_list()} for name, one in some.items()}
        for key, some in (("inputs", takes), ("outputs", function.structured_outputs))
    }


def _record(folder: Path, exportable: Exportable) -> None:
    """Inputs, and what the backbone returned for them."""
    answers = recorded_answers(exportable.backbone, exportable.served)
    recorded: dict[str, Any] = {exportable.takes.name: exportable.served.samples, "embedding": answers}
    np.savez_compressed(folder / RECORDED, **recorded)


def _copy(pictures: Sequence[Path], folder: Path) -> list[str]:
    names = [(FIGURES / path.name).as_posix() for path in pictures]
    for path, name in zip(pictures, names, strict=True):
        (folder / FIGURES).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / name)
    return names


def _write_model(folder: Path, backbone: keras.Model) -> None:
    """The backbone as a Keras model, for whoever trains on: `kzoo.load_backbone`."""
    (folder / MODEL).parent.mkdir()
    try:
        backbone.save(folder / MODEL)
    except OSError:
        raise
    except Exception as error:  # a layer's get_config raises what it likes
        raise ExportError(f"the backbone cannot be saved as a Keras model: {short(error)}") from error


def _next_version(home: Path) -> Path:
    """One above the highest version there is: servers take the highest, so a gap below it would never be served."""
    entries = home.iterdir() if home.exists() else ()
    taken = [int(entry.name) for entry in entries if entry.name.isascii() and entry.name.isdigit()]
    return home / str(max(taken, default=0) + 1)
