"""Vision transformers of video on tubelets, with joint attention over space and time (Arnab et al. 2021, ViViT; Tong et
al. 2022, VideoMAE), and fixed positions.

Input: `[B, T, H, W, C]` in [0, 1]. Outputs: "tokens" `[B, N, D]`, one per tubelet, slot by slot and in each row by row,
and "embedding" `[B, D]`, their mean. A method may show it only some of the tubelets (`kzoo.patches`).
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from kzoo.errors import RecipeError
from kzoo.layers import LayerNormalization, TransformerBlock
from kzoo.patches import KeptPatches
from kzoo_temporal.options import VideoTransformerOptions


def space_time_positions(slots: int, rows: int, columns: int, width: int) -> np.ndarray:
    """Three-dimensional sine-cosine codes, float32 `[slots, rows, columns, width]`, for an even width.

    About a third of the numbers each for row and column, the rest for the slot.
    """
    side = width // 6 * 2
    codes = []
    for axis, share in enumerate((width - 2 * side, side, side)):
        frequencies = 10000.0 ** -(np.arange(share // 2) / max(1, share // 2))
        place = np.indices((slots, rows, columns))[axis][..., None] * frequencies
        codes += [np.sin(place), np.cos(place)]
    return np.concatenate(codes, axis=-1).astype("float32")


@keras.saving.register_keras_serializable(package="kzoo_temporal")
class Cubes(layers.Layer):
    """Cuts a video in cubes. `[B, T, H, W, C]` to `[B, T/deep, H/side, W/side, deep * side * side * C]`.

    A Dense layer after it is a convolution by cubes that do not overlap, and many times faster on a CPU.
    """

    def __init__(self, deep: int, side: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.deep, self.side = deep, side

    def call(self, inputs: Any) -> Any:
        slots, rows, columns, values = self.compute_output_shape(inputs.shape)[1:]
        x = tf.reshape(inputs, [-1, slots, self.deep, rows, self.side, columns, self.side, inputs.shape[-1]])
        return tf.reshape(tf.transpose(x, [0, 1, 3, 5, 2, 4, 6, 7]), [-1, slots, rows, columns, values])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, *sizes, channels = input_shape
        cube = (self.deep, self.side, self.side)
        places = [size and size // part for size, part in zip(sizes, cube, strict=True)]
        return batch, *places, channels and channels * self.deep * self.side**2

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "deep": self.deep, "side": self.side}


@keras.saving.register_keras_serializable(package="kzoo_temporal")
class SpaceTimePositions(layers.Layer):
    """Adds the fixed code of each tubelet's place. `[B, t, h, w, D]` to the same shape; no weights."""

    def call(self, inputs: Any) -> Any:
        x = tf.convert_to_tensor(inputs)
        return x + tf.cast(tf.constant(space_time_positions(*x.shape[1:])), x.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


def _vit(name: str, input_shape: tuple[int, ...], options: VideoTransformerOptions, usual_width: int) -> keras.Model:
    width = options.width or usual_width
    length, height, wide, _ = input_shape
    deep, side = options.tubelet, options.patch_size
    if length % deep or height % side or wide % side:
        raise RecipeError(
            f"{name}: tubelets of {deep} x {side} x {side} do not tile videos of {length} x {height} x {wide}; "
            "set backbone.options.tubelet and patch_size to divisors"
        )
    inputs = keras.Input(input_shape, name="video")
    x: Any = layers.Dense(width, name="tubelets")(Cubes(deep, side, name="cubes")(inputs))
    slots, rows, columns = length // deep, height // side, wide // side
    x = SpaceTimePositions(name="positions")(x)
    x = layers.Reshape((slots * rows, columns, width), name="slots_below_each_other")(x)
    x = KeptPatches(side, name="tubelet_tokens")(x)
    for index in range(1, options.depth + 1):
        x = TransformerBlock(options.heads or max(1, width // 64), name=f"block_{index}")(x)
    x = LayerNormalization(name="norm")(x)
    outputs = {"embedding": layers.GlobalAveragePooling1D(name="mean")(x), "tokens": x}
    return keras.Model(inputs, outputs, name=name)


def video_vit_tiny(input_shape: tuple[int, ...], options: VideoTransformerOptions) -> keras.Model:
    """192 wide, 3 heads, 12 blocks."""
    return _vit("video_vit_tiny", input_shape, options, 192)


def video_vit_base(input_shape: tuple[int, ...], options: VideoTransformerOptions) -> keras.Model:
    """768 wide, 12 heads, 12 blocks."""
    return _vit("video_vit_base", input_shape, options, 768)
