"""Where a transformer's tokens come from, for images of any size: learned or rotary positions, and tokens of its own.

KerasHub's layers hold one size, or square images. These compute the same from the same weights.
"""

import math
from typing import Any

import keras
import tensorflow as tf


def _resizing(new: Any, old: int, antialias: bool) -> tf.Tensor:
    """Matrix `[new, old]` that resizes a row of values as TensorFlow's bicubic interpolation does."""
    columns = tf.eye(old)[None, :, None, :]  # an image of one column, whose channels tell its rows apart
    return tf.image.resize(columns, [new, 1], "bicubic", antialias=antialias)[0, :, 0, :]


@keras.saving.register_keras_serializable(package="kzoo_keras_hub")
class LearnedPositions(keras.layers.Layer):
    """Adds a learned vector for each patch's place; for another grid than the one they were learned on, those between.

    Args:
        grid: rows and columns that the vectors were learned on.
        antialias: smooth when the grid becomes coarser.
    Input shape: `[B, h, w, D]`. Output shape: the same.
    """

    def __init__(self, grid: tuple[int, int], antialias: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.antialias = antialias

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        start = keras.initializers.TruncatedNormal(stddev=0.02)
        self.table = self.add_weight(name="table", shape=(*self.grid, input_shape[-1]), initializer=start)

    def call(self, inputs: Any) -> Any:
        x, table = tf.convert_to_tensor(inputs), tf.convert_to_tensor(self.table)
        if x.shape[1:3] != self.grid:
            table = tf.cast(table, tf.float32)  # resizing is exact to the last bit of bfloat16 no more
            for axis, size in enumerate(self.grid):
                table = tf.tensordot(self._rows(x, axis + 1, size), table, [[1], [axis]])
                table = tf.transpose(table, [1, 0, 2]) if axis else table
        return x + tf.cast(table, x.dtype)

    def _rows(self, x: tf.Tensor, axis: int, size: int) -> tf.Tensor:
        if x.shape[axis] is None:
            return _resizing(tf.shape(x)[axis], size, self.antialias)
        with tf.init_scope():  # a constant: XLA knows no bicubic interpolation
            return _resizing(x.shape[axis], size, self.antialias).numpy()

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid": self.grid, "antialias": self.antialias}


@keras.saving.register_keras_serializable(package="kzoo_keras_hub")
class PrefixTokens(keras.layers.Layer):
    """Puts learned tokens before the others: the class token, then registers. `[B, T, D]` to `[B, count + T, D]`."""

    def __init__(self, count: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.count = count

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        start = keras.initializers.TruncatedNormal(stddev=0.02)
        self.tokens = self.add_weight(name="tokens", shape=(1, self.count, input_shape[-1]), initializer=start)

    def call(self, inputs: Any) -> Any:
        tokens = tf.cast(tf.convert_to_tensor(self.tokens), inputs.dtype)
        return tf.concat([tf.tile(tokens, [tf.shape(inputs)[0], 1, 1]), inputs], axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, length, width = input_shape
        return batch, None if length is None else length + self.count, width

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable(package="kzoo_keras_hub")
class RotaryAngles(keras.layers.Layer):
    """Cosine and sine of the angles by which DINOv3 rotates queries and keys (Siméoni et al. 2025, section 3.2).

    A patch's centre is a point in [-1, 1]²; each coordinate turns a quarter of a head at wavelengths theta^(i / (d/4)).

    Args:
        size: d, of a head. theta: ratio of the longest wavelength to the shortest.
    Input shape: `[B, h, w, D]`. Output shape: twice `[h * w, d]`.
    """

    def __init__(self, size: int, theta: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.size = size
        self.theta = theta

    def call(self, inputs: Any) -> Any:
        _, height, width, _ = inputs.shape
        rows, columns = (tf.shape(inputs)[axis] if side is None else side for axis, side in ((1, height), (2, width)))
        centres = [2.0 * (tf.range(n, dtype=tf.float32) + 0.5) / tf.cast(n, tf.float32) - 1.0 for n in (rows, columns)]
        places = tf.stack(tf.meshgrid(*centres, indexing="ij"), axis=-1)
        frequencies = self.theta ** -tf.range(0.0, 1.0, 4.0 / self.size)
        known = -1 if height is None or width is None else height * width
        angles = tf.reshape(2.0 * math.pi * places[..., None] * frequencies, [known, self.size // 2])
        angles = tf.concat([angles, angles], axis=1)
        return tf.cast(tf.cos(angles), inputs.dtype), tf.cast(tf.sin(angles), inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[tuple[int | None, ...], ...]:
        _, height, width, _ = input_shape
        return ((None if height is None or width is None else height * width, self.size),) * 2

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "theta": self.theta}
