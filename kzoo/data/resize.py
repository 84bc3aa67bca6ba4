"""Images as tensors: to floats, to another size, to bytes again."""

from typing import Any

import tensorflow as tf

from kzoo.errors import DataError

_BRIGHTEST = 16.0  # floats above it are no images in [0, 1], with whatever noise on them, but pixels of 0 to 255


def to_float(images: Any) -> tf.Tensor:
    """uint8 images to float32 in [0, 1]; floating-point images, which are in [0, 1] already, pass through.

    Raises DataError for floats that are pixels of 0 to 255, where it can be known: outside a graph.
    """
    images = tf.convert_to_tensor(images)
    check_range(images)
    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else images


def check_range(images: tf.Tensor) -> None:
    """Raises DataError for floats that are pixels of 0 to 255; says nothing inside a graph."""
    if isinstance(images, tf.__internal__.EagerTensor) and images.dtype.is_floating and tf.size(images) > 0:
        brightest = float(tf.reduce_max(images))
        if brightest > _BRIGHTEST:
            raise DataError(
                f"images: floats up to {brightest:.0f}; give floats in [0, 1], or pixels of 0 to 255 as uint8"
            )


def resize_and_crop(images: tf.Tensor, size: int) -> tf.Tensor:
    """Resize the central square, whose side is the shorter side, to `size`: a triangle filter with antialiasing.

    This is the one definition of the resize: reading files, training, evaluation, embedding and serving all call it.

    images: `[..., H, W, C]` with three or four axes, H and W perhaps unknown. Returns float32 `[..., size, size, C]`
    in the range of the input; images that have that size already are not resampled.
    """
    if images.shape[-3] == images.shape[-2] == size:
        return tf.cast(images, tf.float32)
    if images.dtype != tf.uint8:
        images = tf.cast(images, tf.float32)
    batched = images if images.shape.rank == 4 else images[None]
    sides = tf.cast(tf.shape(images)[-3:-1], tf.float32)
    scale = size / tf.reduce_min(sides)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=batched,
        size=[size, size],
        scale=tf.stack([scale, scale]),
        translation=(size - sides * scale) / 2,  # the centre stays the centre, be it between two pixels
        kernel_type="triangle",
        antialias=True,
    )
    resized = tf.ensure_shape(resized, [batched.shape[0], size, size, images.shape[-1]])
    return resized if images.shape.rank == 4 else resized[0]


def resize_bytes(images: tf.Tensor, size: int) -> tf.Tensor:
    """`resize_and_crop` of uint8 images, rounded to uint8."""
    return to_uint8(resize_and_crop(images, size))


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(images), 0.0, 255.0), tf.uint8)
