"""Images as tensors: to floats, to another size, to bytes again."""

from typing import Any

import tensorflow as tf


def to_float(images: Any) -> tf.Tensor:
    """uint8 images to float32 in [0, 1]; floating-point images, which are in [0, 1] already, pass through."""
    images = tf.convert_to_tensor(images)
    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else images


def resize_and_crop(images: tf.Tensor, size: int) -> tf.Tensor:
    """Resize the shorter side to `size`, with antialiasing, and crop the central square.

    images: `[..., H, W, C]` with three or four axes, H and W perhaps unknown. Returns float32 `[..., size, size, C]`
    in the range of the input; images that have that size already are not resampled.
    """
    height, width = images.shape[-3], images.shape[-2]
    if height == width == size:
        return tf.cast(images, tf.float32)
    if height is None or width is None:
        height, width = tf.shape(images)[-3], tf.shape(images)[-2]
    shorter = tf.minimum(height, width)
    new_height, new_width = (tf.cast(tf.round(side * size / shorter), tf.int32) for side in (height, width))
    resized = tf.image.resize(images, tf.stack([new_height, new_width]), antialias=True)
    top, left = (new_height - size) // 2, (new_width - size) // 2
    cropped = resized[..., top : top + size, left : left + size, :]
    return tf.ensure_shape(cropped, [*images.shape[:-3], size, size, images.shape[-1]])


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(images), 0.0, 255.0), tf.uint8)
