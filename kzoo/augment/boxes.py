"""Random boxes in images, and which images are mirrored: drawn here, cut out by `geometry` and `erasing`."""

import math

import tensorflow as tf

from kzoo.augment.pixels import Range
from kzoo.random import bernoulli, fold_in, in_double, integers, uniform


def draw_crops(
    keys: tf.Tensor,
    height: int | tf.Tensor,
    width: int | tf.Tensor,
    scale: Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
) -> tf.Tensor:
    """Boxes of random area and aspect ratio: int32 `[B, 4]`, (top, left, height, width) in pixels.

    The rule of torchvision's RandomResizedCrop (Szegedy et al. 2015, arXiv:1409.4842, section 6): area uniform in
    `scale` as a fraction of the image, width / height log-uniform in `ratio`; the first of ten candidates that fits,
    else the largest central box whose ratio is within `ratio`.
    """
    keys = fold_in(keys, "crop")
    height, width = tf.convert_to_tensor(height), tf.convert_to_tensor(width)
    heights, widths, found = candidate_boxes(keys, height, width, scale, ratio)
    boxes = placed(keys, tf.where(found, heights, 1), tf.where(found, widths, 1), height, width)
    tallest = tf.minimum(height, tf.cast(tf.round(tf.cast(width, tf.float32) / ratio[0]), tf.int32))
    widest = tf.minimum(width, tf.cast(tf.round(tf.cast(height, tf.float32) * ratio[1]), tf.int32))
    central = tf.stack([(height - tallest) // 2, (width - widest) // 2, tallest, widest])
    return tf.where(found[:, None], boxes, central)


def draw_flips(keys: tf.Tensor, p: float = 0.5) -> tf.Tensor:
    """Which images to mirror: bool `[B]`."""
    return bernoulli(fold_in(keys, "flip"), p)


def candidate_boxes(
    keys: tf.Tensor, height: tf.Tensor, width: tf.Tensor, scale: Range, ratio: Range
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Ten candidate sizes per example: area uniform in `scale` times the image's, log of width / height uniform.

    Returns the height and width of the first that fits the image (int32 `[B]`), and whether any did (bool `[B]`).
    """
    area = tf.cast(height * width, tf.float32) * uniform(fold_in(keys, "area"), (10,), *scale)
    aspect = in_double(tf.exp, uniform(fold_in(keys, "ratio"), (10,), math.log(ratio[0]), math.log(ratio[1])))
    heights = tf.cast(tf.round(tf.sqrt(area / aspect)), tf.int32)
    widths = tf.cast(tf.round(tf.sqrt(area * aspect)), tf.int32)
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
    return tf.gather(heights, first, batch_dims=1), tf.gather(widths, first, batch_dims=1), tf.reduce_any(fits, axis=1)


def placed(keys: tf.Tensor, heights: tf.Tensor, widths: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Boxes of the given sizes at uniformly random places inside the image: int32 `[B, 4]`."""
    top = integers(fold_in(keys, "top"), (), 0, height - heights + 1)
    left = integers(fold_in(keys, "left"), (), 0, width - widths + 1)
    return tf.stack([top, left, heights, widths], axis=1)
