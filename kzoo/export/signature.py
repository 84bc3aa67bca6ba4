"""What every signature of an export has in common."""

from collections.abc import Mapping

import tensorflow as tf

from kzoo.errors import ExportError


def as_float32(name: str, outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Half precision is how the backbone computes, not what a client should have to read."""
    if not isinstance(outputs, Mapping):
        raise ExportError(f"signature {name!r}: return a dict of named tensors. Received: {type(outputs).__name__}")
    return {
        key: tf.cast(value, tf.float32) if value.dtype.is_floating else value
        for key, value in ((key, tf.convert_to_tensor(value)) for key, value in outputs.items())
    }
