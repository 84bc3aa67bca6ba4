"""Boxes and patches that are taken away."""

import tensorflow as tf

from kzoo.augment.boxes import candidate_boxes, placed
from kzoo.augment.pixels import Range, extent
from kzoo.data.resize import to_float
from kzoo.random import bernoulli, fold_in, permutation


def draw_erasures(
    keys: tf.Tensor,
    height: int | tf.Tensor,
    width: int | tf.Tensor,
    p: float = 0.5,
    scale: Range = (0.02, 0.33),
    ratio: Range = (0.3, 3.3),
) -> tf.Tensor:
    """Boxes to erase: int32 `[B, 4]`, (top, left, height, width); of size 0 where nothing is erased.

    Area uniform in `scale` times the image's, width / height log-uniform in `ratio`, the first of ten candidates that
    fits (Zhong et al. 2020, "Random erasing data augmentation").
    """
    keys = fold_in(keys, "random_erasing")
    height, width = tf.convert_to_tensor(height), tf.convert_to_tensor(width)
    heights, widths, found = candidate_boxes(keys, height, width, scale, ratio)
    erased = found & bernoulli(fold_in(keys, "chosen"), p)
    return placed(keys, tf.where(erased, heights, 0), tf.where(erased, widths, 0), height, width)


def erase(images: tf.Tensor, boxes: tf.Tensor, value: float = 0.0) -> tf.Tensor:
    """Fill boxes (int32 `[B, 4]`) with a value."""
    images = to_float(images)
    height, width = extent(images)
    top, left, heights, widths = (number[:, None] for number in tf.unstack(boxes, axis=1))
    rows = (tf.range(height) >= top) & (tf.range(height) < top + heights)
    columns = (tf.range(width) >= left) & (tf.range(width) < left + widths)
    return tf.where((rows[:, :, None] & columns[:, None, :])[..., None], value, images)


def random_erasing(
    images: tf.Tensor,
    keys: tf.Tensor,
    p: float = 0.5,
    scale: Range = (0.02, 0.33),
    ratio: Range = (0.3, 3.3),
    value: float = 0.0,
) -> tf.Tensor:
    """With probability p, fill a random box with a value (`draw_erasures`, `erase`)."""
    return erase(images, draw_erasures(keys, *extent(images), p, scale, ratio), value)


def patch_mask(keys: tf.Tensor, grid: tuple[int, int], ratio: float) -> tf.Tensor:
    """Hide patches: bool `[B, rows * columns]`, true for the hidden; N - int(N (1 - ratio)) of the N, the same for all.

    Every set of that size is equally likely (He et al. 2022, MAE, which keeps int(N (1 - ratio)) patches).
    """
    patches = grid[0] * grid[1]
    hidden = patches - int(patches * (1 - ratio))
    return permutation(fold_in(keys, "patch_mask"), patches) < hidden
