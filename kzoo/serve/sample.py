"""A request that an export answers: it warms a model up, and shows a person how to call it."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from kzoo.serve.tensors import BYTES, Tensor

FILES = "image_bytes"  # what `serve_bytes` takes: JPEG or PNG files


def sample(inputs: Mapping[str, Tensor], default: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Zeros for the inputs of a signature, and of files the smallest that it takes; {} where what it takes is unknown.

    default: the inputs of `serving_default`, which tell how large images are.
    """
    if inputs.keys() == {FILES}:
        image = default.get("image")
        return {FILES: _objects([_png(image.shape)])} if image and len(image.shape) == 4 else {}
    if any(tensor.dtype == BYTES for tensor in inputs.values()):
        return {}
    return {name: np.zeros([side or 1 for side in tensor.shape], tensor.dtype) for name, tensor in inputs.items()}


def _png(shape: tuple[int | None, ...]) -> bytes:
    """A black picture: of one pixel, or of the size of a backbone that is not square and takes no other."""
    height, width = shape[1:3]
    size = (1, 1) if height == width else (width or 1, height or 1)
    file = io.BytesIO()
    Image.new("L", size).save(file, "PNG")
    return file.getvalue()


def _objects(values: list[bytes]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array
