"""The signatures of a backbone of images: `serving_default` over pixels, `serve_bytes` over the bytes of files."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.data.resize import to_float
from kzoo.errors import ExportError
from kzoo.export.parity import LIMIT, check_parity
from kzoo.export.preprocess import decode_file, require
from kzoo.export.signature import as_float32
from kzoo.modality import Served, Signature


def serve_images(
    backbone: keras.Model, size: tuple[int, ...] | None, bits: int, further: Mapping[str, Signature]
) -> Served:
    """What the export of a backbone of images returns; see `kzoo.export.saved_model.export_backbone`.

    Raises ExportError for a backbone of no fixed image size, and for a name in `further` that is taken.
    """
    height, width, channels = shape = _image_shape(backbone, size)
    functions = _signatures(backbone, shape, further, bits)

    def takes(images: np.ndarray) -> np.ndarray:
        return images.astype(np.float32) / 255

    def parity(signatures: Mapping[str, Any], embed: Any) -> dict[str, Any]:
        found = check_parity(signatures["serve_bytes"], lambda images: embed(takes(images)), shape, bits)
        return {"files": found, "limit": LIMIT}

    return Served(
        functions=functions,
        samples=np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8),
        takes=takes,
        facts={
            "height": height,
            "width": width,
            "channels": channels,
            "type": "uint8",
            "bits": bits,
            "preprocessing": "inside: values / 255; serve_bytes reads files as kzoo.folder.read_image does",
        },
        blurred=lambda pixels: np.nextafter(pixels, np.float32(1)),
        parity=parity,
    )


def _image_shape(backbone: keras.Model, size: tuple[int, ...] | None) -> tuple[int, int, int]:
    """(height, width, channels) of the images it takes, all known."""
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
    backbone: keras.Model, size: tuple[int, int, int], further: Mapping[str, Signature], bits: int
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


def _on_pixels(name: str, answer: Signature, size: tuple[int, int, int]) -> Any:
    """Trace `answer` over uint8 `image` [None,H,W,C]."""

    @tf.function(input_signature=[tf.TensorSpec([None, *size], tf.uint8, name="image")], autograph=False)
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.ensure_shape(image, [None, *size])  # a loaded signature does not check the shape it declares
        image = require(
            tf.shape(image)[0] > 0, image, "image: an empty batch"
        )  # convolutions of nothing fail obscurely
        return as_float32(name, answer(to_float(image)))

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
        return as_float32("serve_bytes", answer(images))

    return serve.get_concrete_function()
