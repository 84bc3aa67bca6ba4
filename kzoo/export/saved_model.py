"""A backbone as a versioned SavedModel that TensorFlow alone can load and answer with.

    <directory>/<name>/<version>/   saved_model.pb  variables/  assets.extra/{kzoo.json, backbone.keras}

The graph is traced from functions over the variables that they read, the backbone's and, for what a method returns
besides, those of its heads: no Keras object, optimizer or teacher is in it, and `check_ops` proves that it can only
compute (a SavedModel is a program: it may carry operations that write files).
"""

import errno
import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.errors import ExportError
from kzoo.export.check_ops import check_ops
from kzoo.export.layout import METADATA, MODEL
from kzoo.export.signature import as_float32
from kzoo.modality import Served, Signature
from kzoo.plugins.registry import modality_taking
from kzoo.system.failures import short
from kzoo.system.files import new_folder, sha256, sweep_dead

TOLERANCE = 1e-5
_ROUNDINGS = 10


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
) -> Path:
    """Write the backbone to the next free version folder, `directory/name/<integer>`, and return that folder.

    Two signatures are always there (H, W, C are the backbone's input size, D its embedding width):
    `serving_default {image: uint8 [None,H,W,C]} -> {embedding: float32 [None,D]}` and
    `serve_bytes {image_bytes: string [None]} -> {embedding: float32 [None,D]}` for JPEG and PNG files, read as
    `kzoo.folder.read_image` reads them for training (see `kzoo.export.preprocess`); others are refused by name. A
    backbone of text has the one signature `serving_default {tokens: int32 [None,T]} -> {embedding: float32 [None,D]}`;
    the vocabulary is in its metadata.

    The folder is written beside, checked (`check_ops`, `self_check`) and renamed: a reader never sees half of it, a
    failed export leaves nothing, nothing is overwritten, and two exporters get two versions. What an exporter that was
    killed left beside them is removed.

    Args:
        backbone: a built Functional model from float images in [0, 1], `[B,H,W,C]`, to a dict with "embedding" `[B,D]`.
        directory: made when missing. name: a plain folder name.
        size: (height, width) of the images to answer, for a backbone that takes any.
        vocabulary: of a backbone of text, what each token number stands for.
        metadata: JSON values, written to `assets.extra/kzoo.json` with the input size, width and kzoo's version.
        signatures: further outputs, each a function from float images in [0, 1], `[B,H,W,C]`, or int32 tokens `[B,T]`,
            to a dict of tensors; each is called over TensorFlow with the same input as `serving_default`.
        bits: that grey values wider than 8 bits use in the data, as `kzoo.folder.read_image` was told.

    Raises:
        ExportError: the backbone is no image backbone of fixed size, the graph could do more than compute, or the
            loaded export does not return what the backbone returns.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ExportError(
            f"export name {name!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    served = modality_taking(backbone.inputs[0].name).serve(
        backbone, size=size, vocabulary=vocabulary, bits=bits, further=dict(signatures or {})
    )
    facts = {
        "name": name,
        "input": dict(served.facts),
        "embedding_width": int(backbone.output["embedding"].shape[-1]),
        "signatures": sorted(served.functions),
        "kzoo_version": version("kzoo"),
    }
    sweep_dead(Path(directory) / name)
    while True:
        target = _next_version(Path(directory) / name)
        try:
            with new_folder(target) as beside:
                _write(beside, served.functions)
                check_ops(beside)
                parity = self_check(beside, backbone, served, signatures)
                _write_model(beside, backbone)
                _write_metadata(beside, {**metadata, **facts, "parity": parity})
            return target
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            # Another exporter took this version meanwhile: the next one is ours.


def self_check(
    path: Path, backbone: keras.Model, served: Served, further: Mapping[str, Signature] | None = None
) -> dict[str, Any]:
    """Load the export with TensorFlow and compare its embeddings with the backbone's, in batches of one and of three,
    and what further signatures return with those of the functions they were made from; then in the modality's own
    way: of images, files of each kind (`kzoo.export.parity`).

    Returns what the modality's own way found; {} where it has none.

    Raises:
        ExportError: an answer is not a number, or differs by more than `TOLERANCE` (absolute, or relative to the
            largest value above 1) and more than rounding explains: `_ROUNDINGS` times what the backbone's own outputs
            differ, for one example between these batches, and for pixels that differ in their last bit.
    """
    signatures = tf.saved_model.load(str(path)).signatures

    def embed(inputs: Any) -> dict[str, tf.Tensor]:
        return {"embedding": backbone(inputs, training=False)["embedding"]}

    for name, answer in {"serving_default": embed, **(further or {})}.items():
        if fault := _difference(name, signatures[name], answer, served):
            raise ExportError(f"{path}: {fault}; do not serve it")
    if served.parity is None:
        return {}
    try:
        return served.parity(signatures, lambda inputs: _as_numbers(embed(inputs))["embedding"])
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from None


def _difference(name: str, loaded: Any, answer: Signature, served: Served) -> str:
    """By how much a loaded signature's outputs differ more than they may, in words; "" where it does not."""
    [key] = loaded.structured_input_signature[1]
    whose = "the backbone" if name == "serving_default" else f"the method's {name!r}"
    batches = served.samples[:1], served.samples[:3]
    inputs = [served.takes(batch) for batch in batches]
    expected = one, three = [_as_numbers(answer(each)) for each in inputs]
    blurred = _as_numbers(answer(served.blurred(inputs[1]))) if served.blurred else three
    for batch, rights in zip(batches, expected, strict=True):
        received = _as_numbers(loaded(**{key: tf.constant(batch)}))
        for output, right in rights.items():
            if right.dtype.kind != "f":  # names and counts
                difference, allowed = float(not np.array_equal(received[output], right)), 0.0
            else:
                # what a batch of another size changes, and how far the network carries the last bit of what it takes
                others = (one[output], three[output][:1]), (blurred[output], three[output])
                rounding = max(float(np.max(np.abs(a - b))) for a, b in others)
                difference = float(np.max(np.abs(received[output] - right)))
                allowed = max(TOLERANCE * max(1.0, float(np.max(np.abs(right)))), _ROUNDINGS * rounding)
            if not difference <= allowed:  # also for NaN
                return (
                    f"for a batch of {len(batch)} the export differs from {whose} by {difference:.2g}, more than "
                    f"{allowed:.2g}"
                )
    return ""


def _as_numbers(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {key: np.asarray(value) for key, value in as_float32("", outputs).items()}


def _write(folder: Path, functions: Mapping[str, Any]) -> None:
    """The SavedModel of the traced functions."""
    module = tf.Module()
    # Only what the outputs need. A set of variables has no order of its own: sorting makes exports comparable.
    captured = {id(variable): variable for function in functions.values() for variable in function.variables}
    module.parameters = sorted(captured.values(), key=lambda variable: variable.name)
    tf.saved_model.save(module, str(folder), signatures=functions)


def is_whole(folder: Path, metadata: Mapping[str, Any]) -> bool:
    """Whether an export holds, to the last bit, the files that its metadata says it was written with."""
    written = metadata.get("sha256")
    return isinstance(written, dict) and all(
        (folder / name).is_file() and sha256(folder / name) == known for name, known in written.items()
    )


def _write_model(folder: Path, backbone: keras.Model) -> None:
    """The backbone as a Keras model, for whoever trains on: `kzoo.load_backbone`."""
    (folder / MODEL).parent.mkdir()
    try:
        backbone.save(folder / MODEL)
    except OSError:
        raise
    except Exception as error:  # a layer's get_config raises what it likes
        raise ExportError(f"the backbone cannot be saved as a Keras model: {short(error)}") from error


def _write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    (folder / METADATA).write_text(json.dumps({**metadata, "sha256": sums}, indent=2) + "\n", encoding="utf-8")


def _next_version(home: Path) -> Path:
    """One above the highest version there is: servers take the highest, so a gap below it would never be served."""
    entries = home.iterdir() if home.exists() else ()
    taken = [int(entry.name) for entry in entries if entry.name.isascii() and entry.name.isdigit()]
    return home / str(max(taken, default=0) + 1)
