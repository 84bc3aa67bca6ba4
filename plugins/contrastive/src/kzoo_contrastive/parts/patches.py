"""Grids of overlapping patches, whose geometry is relative to the image, for contrastive predictive coding.

A batch carries them as mosaics, `[B, G p, G p, C]`, in which all patches lie side by side: one can look at it. At 256
px, a grid of 7 and patches of 1/4 are 64 px in steps of 32; at 32 px 8 in steps of 4; at 28 px 8 in steps of 3.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.errors import OptionsError

SMALLEST = 8  # pixels; below it a backbone has nothing to see


def positions(side: int | tf.Tensor, grid: int, share: float) -> Any:
    """The pixels of each patch along one axis, `[grid, p]`: NumPy where the side is known, else int32 tensors.

    Patches have p = max(8, share * side) pixels, rounded, and start (side - p) // (grid - 1) apart; what remains is
    left out on both sides alike. Raises OptionsError where the starts would coincide.
    """
    if isinstance(side, int):
        length = min(side, max(SMALLEST, int(side * share + 0.5)))
        if side - length < grid - 1:
            raise OptionsError(
                f"method.options.grid: images of {side} px do not hold {grid} patches of {length} px in a row; give "
                "larger images (method.options.size) or a smaller grid"
            )
        arange: Any = np.arange
    else:
        scaled = tf.cast(tf.cast(side, tf.float32) * share + 0.5, tf.int32)
        length, arange = tf.minimum(side, tf.maximum(SMALLEST, scaled)), tf.range
    stride = (side - length) // (grid - 1)
    margin = (side - length - stride * (grid - 1)) // 2
    return margin + arange(grid)[:, None] * stride + arange(length)


def cut(images: tf.Tensor, grid: int, share: float) -> tf.Tensor:
    """The mosaic of an image's patches, `[B, G p, G p, C]`, in the images' own type."""
    shape = tf.shape(images)
    height, width = (images.shape[axis] or shape[axis] for axis in (1, 2))
    rows, columns = (tf.reshape(positions(side, grid, share), [-1]) for side in (height, width))
    return tf.gather(tf.gather(images, rows, axis=1), columns, axis=2)


def split(mosaic: tf.Tensor, grid: int) -> tf.Tensor:
    """A mosaic `[B, G p, G p, C]` as patches `[B G G, p, p, C]`, row by row of each image."""
    shape = tf.shape(mosaic)
    height, width = ((mosaic.shape[axis] or shape[axis]) // grid for axis in (1, 2))
    cells = tf.reshape(mosaic, [-1, grid, height, grid, width, mosaic.shape[3]])
    return tf.reshape(tf.transpose(cells, [0, 1, 3, 2, 4, 5]), [-1, height, width, mosaic.shape[3]])


def join(patches: tf.Tensor, grid: int) -> tf.Tensor:
    """The inverse of `split`."""
    height, width, channels = patches.shape[1:]
    cells = tf.reshape(patches, [-1, grid, grid, height, width, channels])
    return tf.reshape(tf.transpose(cells, [0, 1, 3, 2, 4, 5]), [-1, grid * height, grid * width, channels])


@keras.saving.register_keras_serializable(package="kzoo_contrastive")
class PatchGrid(keras.layers.Layer):
    """The patches of images of any size. Input shape: `[B, H, W, C]`. Output shape: `[B G G, p, q, C]`."""

    def __init__(self, grid: int, share: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.grid, self.share = grid, share

    def call(self, inputs: Any) -> Any:
        return split(cut(inputs, self.grid, self.share), self.grid)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (None, None, None, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid": self.grid, "share": self.share}


@keras.saving.register_keras_serializable(package="kzoo_contrastive")
class Regrid(keras.layers.Layer):
    """Patch embeddings on their grid again. Input shape: `[B G G, D]`. Output shape: `[B, G, G, D]`."""

    def __init__(self, grid: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.grid = grid

    def call(self, inputs: Any) -> Any:
        return tf.reshape(inputs, [-1, self.grid, self.grid, inputs.shape[-1]])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (None, self.grid, self.grid, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid": self.grid}


def patch_encoder(backbone: keras.Model, grid: int, share: float) -> keras.Model:
    """Images of any size -> the embeddings of their patches: "map" `[B, G, G, D]`, "embedding" their mean `[B, D]`."""
    inputs = keras.Input((None, None, backbone.input_shape[-1]), name="image")
    patches = PatchGrid(grid, share, name="patches")(inputs)
    grid_map = Regrid(grid, name="map")(backbone(patches)["embedding"])
    mean = keras.layers.GlobalAveragePooling2D(name="embedding")(grid_map)
    return keras.Model(inputs, {"embedding": mean, "map": grid_map}, name="patch_encoder")
