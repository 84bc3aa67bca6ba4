"""A backbone as a versioned SavedModel that TensorFlow alone can load and answer with.

    <directory>/<name>/<version>/   saved_model.pb  variables/  assets.extra/kzoo.json

The graph is traced from our own functions over the backbone's variables: no Keras object, optimizer or head is in it,
and `check_ops` proves that it can only compute (a SavedModel is a program: it may carry operations that write files).
"""

import errno
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.data.resize import to_float
from kzoo.errors import ExportError
from kzoo.export.check_ops import check_ops
from kzoo.export.parity import LIMIT, check_parity
from kzoo.export.preprocess import decode_file, require
from kzoo.system.files import new_folder, sweep_dead

TOLERANCE = 1e-5
_ROUNDINGS = 10
METADATA = Path("assets.extra", "kzoo.json")  # TensorFlow carries this folder along and never reads it

Signature = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]


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
        signatures: further answers, each a function from float images in [0, 1], `[B,H,W,C]`, to a dict of tensors;
            each is called over TensorFlow with the same uint8 `image` as `serving_default`.
        bits: that grey values wider than 8 bits use in the data, as `kzoo.folder.read_image` was told.

    Raises:
        ExportError: the backbone is no image backbone of fixed size, the graph could do more than compute, or the
            loaded export does not answer what the backbone answers.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ExportError(
            f"export name {name!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    random = np.random.default_rng(0)
    if vocabulary:
        length = backbone.input_shape[1]
        functions = {"serving_default": _on_tokens(backbone, length, len(vocabulary))}
        samples = random.integers(0, len(vocabulary), (3, length), np.int32)
        inputs: dict[str, Any] = {"length": length, "type": "int32", "vocabulary": list(vocabulary)}
    else:
        height, width, channels = shape = _image_shape(backbone, size)
        functions = _signatures(backbone, shape, dict(signatures or {}), bits)
        samples = random.integers(0, 256, (3, height, width, channels), np.uint8)
        inputs = {"height": height, "width": width, "channels": channels, "type": "uint8", "bits": bits}
    facts = {
        "name": name,
        "input": inputs,
        "embedding_width": int(backbone.output["embedding"].shape[-1]),
        "signatures": sorted(functions),
        "kzoo_version": version("kzoo"),
    }
    sweep_dead(Path(directory) / name)
    while True:
        target = _next_version(Path(directory) / name)
        try:
            with new_folder(target) as beside:
                _write(beside, functions)
                check_ops(beside)
                parity = self_check(beside, backbone, samples, bits)
                _write_metadata(beside, {**metadata, **facts, "parity": parity})
            return target
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            # Another exporter took this version meanwhile: the next one is ours.


def self_check(path: Path, backbone: keras.Model, images: np.ndarray, bits: int = 16) -> dict[str, Any]:
    """Load the export with TensorFlow and compare its embeddings with the backbone's, in batches of one and of three,
    and those of image files of each kind with the backbone's of the pixels that training reads (`kzoo.export.parity`).

    Returns the largest difference of the kinds: {"files": {kind: share of the embedding's largest value, or why it is
    refused}, "limit": float}; {} for text.

    Args:
        images: uint8 `[n,H,W,C]`, or int32 tokens `[n,T]`, n >= 1; the first and then up to three are embedded.

    Raises:
        ExportError: an embedding is not a number, or differs by more than `TOLERANCE` (absolute, or relative to the
            largest value above 1) and more than rounding explains: `_ROUNDINGS` times what the backbone's own answers
            differ, for one image between these batches, and for pixels that differ in their last bit.
    """
    signatures = tf.saved_model.load(str(path)).signatures
    answer = signatures["serving_default"]
    key = "tokens" if images.dtype == np.int32 else "image"
    batches = images[:1], images[:3]

    def embed(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(tf.cast(backbone(pixels, training=False)["embedding"], tf.float32))

    inputs = [_as_backbone_takes(batch) for batch in batches]
    expected = [embed(each) for each in inputs]
    rounding = float(np.max(np.abs(expected[0] - expected[1][:1])))
    if key == "image":  # how far the backbone carries the last bit of what it takes
        rounding = max(rounding, float(np.max(np.abs(embed(np.nextafter(inputs[1], np.float32(1))) - expected[1]))))
    for batch, right in zip(batches, expected, strict=True):
        received = answer(**{key: tf.constant(batch)})["embedding"].numpy()
        difference = float(np.max(np.abs(received - right)))
        allowed = max(TOLERANCE * max(1.0, float(np.max(np.abs(right)))), _ROUNDINGS * rounding)
        if not difference <= allowed:  # also for NaN
            raise ExportError(
                f"{path}: for a batch of {len(batch)} the export differs from the backbone by {difference:.2g}, "
                f"more than {allowed:.2g}; do not serve it"
            )
    if key == "tokens":
        return {}
    files, size = signatures["serve_bytes"], images.shape[1:]
    try:
        parity = check_parity(files, lambda pixels: embed(_as_backbone_takes(pixels)), size, bits)
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from None
    return {"files": parity, "limit": LIMIT}


def _as_backbone_takes(examples: np.ndarray) -> np.ndarray:
    return examples if examples.dtype == np.int32 else examples.astype(np.float32) / 255


def _image_shape(backbone: keras.Model, size: tuple[int, ...] | None) -> tuple[int, int, int]:
    """(height, width, channels) of the images it answers, all known."""
    shape = backbone.input_shape
    sides = tuple(shape[1:]) if isinstance(shape, tuple) else ()
    if size and sides[:2] == (None, None):
        sides = (*size, *sides[2:])
    if len(sides) != 3 or None in sides or sides[2] not in (1, 3):
        raise ExportError(f"backbone {backbone.name!r}: an export needs images [H,W,C], C 1 or 3. Received: {shape}")
    outputs = getattr(backbone, "output", None)  # a model that is not Functional has none
    if not isinstance(outputs, Mapping) or "embedding" not in outputs:
        raise ExportError(f"backbone {backbone.name!r}: it has no output named 'embedding'")
    return sides


def _signatures(
    backbone: keras.Model, size: tuple[int, int, int], further: dict[str, Signature], bits: int
) -> dict[str, Any]:
    """Name → traced function."""

    # a function of its own, traced and stored once for both signatures
    @tf.function(input_signature=[tf.TensorSpec([None, *size], tf.float32)], autograph=False)
    def embed(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": backbone(image, training=False)["embedding"]}

    if taken := {"serving_default", "serve_bytes"} & set(further):
        raise ExportError(f"signature {sorted(taken)[0]!r} is the backbone's own; give yours another name")
    functions = {key: _on_pixels(key, answer, size) for key, answer in {"serving_default": embed, **further}.items()}
    functions["serve_bytes"] = _on_files(embed, size, bits)
    return functions


def _on_tokens(backbone: keras.Model, length: int, vocabulary: int) -> Any:
    """Trace the embedding of int32 `tokens` [None,T]."""

    @tf.function(input_signature=[tf.TensorSpec([None, length], tf.int32, name="tokens")], autograph=False)
    def serve(tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = tf.ensure_shape(tokens, [None, length])
        tokens = require(tf.shape(tokens)[0] > 0, tokens, "tokens: an empty batch")
        known = tf.reduce_all((tokens >= 0) & (tokens < vocabulary))
        tokens = require(known, tokens, f"tokens: numbers must lie in 0 to {vocabulary - 1}")
        tokens = tf.where(known, tokens, 0)  # TensorFlow's optimizer may drop the order of check and use, not a value
        return _as_float32("serving_default", {"embedding": backbone(tokens, training=False)["embedding"]})

    return serve.get_concrete_function()


def _on_pixels(name: str, answer: Signature, size: tuple[int, int, int]) -> Any:
    """Trace `answer` over uint8 `image` [None,H,W,C]."""

    @tf.function(input_signature=[tf.TensorSpec([None, *size], tf.uint8, name="image")], autograph=False)
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.ensure_shape(image, [None, *size])  # a loaded signature does not check the shape it declares
        image = require(
            tf.shape(image)[0] > 0, image, "image: an empty batch"
        )  # convolutions of nothing fail obscurely
        return _as_float32(name, answer(to_float(image)))

    return serve.get_concrete_function()


def _on_files(answer: Signature, size: tuple[int, int, int], bits: int) -> Any:
    """Trace `answer` over string `image_bytes` [None], JPEG or PNG files."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        image_bytes = tf.ensure_shape(image_bytes, [None])
        image_bytes = require(tf.shape(image_bytes)[0] > 0, image_bytes, "image_bytes: an empty batch")
        pixels = tf.TensorSpec(size, tf.float32)
        # Few at a time: a decoded picture is far larger than its file.
        images = tf.map_fn(
            lambda file: decode_file(file, size, bits), image_bytes, fn_output_signature=pixels, parallel_iterations=2
        )
        return _as_float32("serve_bytes", answer(images))

    return serve.get_concrete_function()


def _as_float32(name: str, outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Half precision is how the backbone computes, not what a client should have to read."""
    if not isinstance(outputs, Mapping):
        raise ExportError(f"signature {name!r}: return a dict of named tensors. Received: {type(outputs).__name__}")
    return {
        key: tf.cast(value, tf.float32) if value.dtype.is_floating else value
        for key, value in ((key, tf.convert_to_tensor(value)) for key, value in outputs.items())
    }


def _write(folder: Path, functions: Mapping[str, Any]) -> None:
    """The SavedModel of the traced functions."""
    module = tf.Module()
    # Only what the answers read. A set of variables has no order of its own: sorting makes exports comparable.
    captured = {id(variable): variable for function in functions.values() for variable in function.variables}
    module.parameters = sorted(captured.values(), key=lambda variable: variable.name)
    tf.saved_model.save(module, str(folder), signatures=functions)


def _write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    (folder / METADATA).parent.mkdir()
    (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def _next_version(home: Path) -> Path:
    """One above the highest version there is: servers take the highest, so a gap below it would never be served."""
    entries = home.iterdir() if home.exists() else ()
    taken = [int(entry.name) for entry in entries if entry.name.isascii() and entry.name.isdigit()]
    return home / str(max(taken, default=0) + 1)
