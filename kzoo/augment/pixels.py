"""What all augmentation needs of images: their sides, their channels, their range."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kzoo.errors import DataError

Range = tuple[float, float]


def pixel_step(images: tf.Tensor) -> np.float32:
    """What one step of the pixel values is worth."""
    return np.float32(1 / 255 if images.dtype == tf.uint8 else 1)


def clip(images: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ClipByValue(t=images, clip_value_min=0.0, clip_value_max=1.0)  # one pass, tf.clip_by_value is two


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def extent(images: tf.Tensor) -> tuple[int | tf.Tensor, int | tf.Tensor]:
    """Height and width: integers where known, else scalar int32 tensors."""
    shape = tf.shape(images)
    return tuple(
        known if known is not None else shape[axis] for axis, known in ((1, images.shape[1]), (2, images.shape[2]))
    )


def channel_count(images: tf.Tensor) -> int:
    if images.shape.rank != 4 or images.shape[3] not in (1, 3):
        raise DataError(f"images have shape {images.shape}; give [batch, height, width, 1 or 3 channels]")
    return images.shape[3]


def per_image(values: tf.Tensor) -> tf.Tensor:
    """`[B]` to `[B, 1, 1, 1]`."""
    return values[:, None, None, None]


def where_chosen(images: tf.Tensor, chosen: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Replace the chosen images (bool `[B]`) by what `change` makes of them; no work is spent on the others."""
    indices = tf.where(chosen)
    return tf.cond(
        tf.size(indices) > 0,
        lambda: tf.tensor_scatter_nd_update(images, indices, change(tf.gather_nd(images, indices))),
        lambda: images,
    )
