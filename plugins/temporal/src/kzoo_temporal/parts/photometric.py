"""How pictures are sampled at other places, and how alike two are: what methods of depth share."""

import tensorflow as tf

_C1, _C2 = 0.01**2, 0.03**2  # of Wang et al. 2004, for pictures in [0, 1]


def shift_columns(images: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Each pixel from `shift` of the width further right, between columns linearly; beyond the border the last column.

    images: `[B, H, W, C]`. shift: `[B, H, W]`, as a share of the width. The gradient reaches both.
    """
    width = images.shape[2]
    place = tf.range(width, dtype=shift.dtype) + shift * width
    place = tf.clip_by_value(place, 0.0, width - 1.0)
    left = tf.clip_by_value(tf.floor(place), 0.0, max(0.0, width - 2.0))
    share = tf.cast((place - left)[..., None], images.dtype)
    first = tf.cast(left, tf.int32)
    one, other = (tf.gather(images, tf.minimum(first + step, width - 1), batch_dims=2) for step in (0, 1))
    return one * (1.0 - share) + other * share


def dissimilarity(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """(1 - SSIM) / 2 in [0, 1] of each pixel inside the border, over windows of 3 x 3: `[B, H - 2, W - 2, C]`."""
    mean_x, mean_y = _windows(x), _windows(y)
    variance_x = _windows(tf.square(x)) - tf.square(mean_x)
    variance_y = _windows(tf.square(y)) - tf.square(mean_y)
    covariance = _windows(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    alike /= (tf.square(mean_x) + tf.square(mean_y) + _C1) * (variance_x + variance_y + _C2)
    return tf.clip_by_value((1.0 - alike) / 2.0, 0.0, 1.0)


def _windows(x: tf.Tensor) -> tf.Tensor:
    """The means of all windows of 3 x 3: sums of shifted pictures, which are exact in any precision."""
    down = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    return (down[:, :, :-2] + down[:, :, 1:-1] + down[:, :, 2:]) / 9.0


def roughness(disparity: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Mean |change of disparity| from pixel to pixel, down and across, less where the picture changes: a scalar.

    disparity: `[B, H, W]`. images: `[B, H, W, C]`. Weights exp(-mean over colours of |change|).
    """
    total = 0.0
    for axis in (1, 2):
        steps = _step(disparity, axis)
        edges = tf.reduce_mean(tf.abs(_step(images, axis)), axis=-1)
        total += tf.reduce_mean(tf.abs(steps) * tf.exp(-tf.cast(edges, steps.dtype)))
    return total


def _step(x: tf.Tensor, axis: int) -> tf.Tensor:
    return x[:, 1:] - x[:, :-1] if axis == 1 else x[:, :, 1:] - x[:, :, :-1]
