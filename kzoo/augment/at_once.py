"""Crop, mirror, resize and blur a batch of small images at once, as products with one matrix per image."""

import numpy as np
import tensorflow as tf

from kzoo.augment.linear import GaussianBlur, gaussian_matrices, mirrored
from kzoo.augment.pixels import channel_count, extent


def sample_batch(
    images: tf.Tensor, boxes: tf.Tensor, flip: tf.Tensor, size: tuple[int, int], blur: GaussianBlur | None
) -> tf.Tensor:
    """Crop, mirror, resize and blur all images at once, in their own units: float32 `[B, *size, C]`."""
    (height, width), channels = extent(images), channel_count(images)
    columns = tf.reshape(tf.transpose(images, [0, 2, 1, 3]), [-1, width, height * channels])
    columns = _sample(columns, boxes[:, 1], boxes[:, 3], flip, size[1], blur)
    rows = tf.transpose(tf.reshape(columns, [-1, size[1], height, channels]), [0, 2, 1, 3])
    rows = tf.reshape(rows, [-1, height, size[1] * channels])
    views = _sample(rows, boxes[:, 0], boxes[:, 2], tf.zeros_like(flip), size[0], blur)
    return tf.reshape(views, [-1, *size, channels])


def mean_in_box(pixels: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """The mean colour inside each box: float32 `[B, C]`."""

    def share(start: tf.Tensor, length: tf.Tensor, size: int | tf.Tensor) -> tf.Tensor:
        pixel = tf.range(size)
        inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
        return (tf.cast(inside, tf.float32) / tf.cast(length, tf.float32)[:, None])[:, None]

    (height, width), channels = extent(pixels), pixels.shape[3]
    row = tf.matmul(share(boxes[:, 0], boxes[:, 2], height), tf.reshape(pixels, [-1, height, width * channels]))
    return tf.matmul(share(boxes[:, 1], boxes[:, 3], width), tf.reshape(row, [-1, width, channels]))[:, 0]


def _sample(
    lines: tf.Tensor, start: tf.Tensor, length: tf.Tensor, flip: tf.Tensor, size: int, blur: GaussianBlur | None
) -> tf.Tensor:
    """Resample the lines start, ..., start + length - 1 of `[B, lines, M]` to float32 `[B, size, M]`, and blur them.

    A product with one matrix per image.
    """
    radius = 0 if blur is None else blur.radius
    positions = _positions(mirrored(np.arange(-radius, size + radius), size), size, length, flip)
    weights = _bilinear(tf.cast(start, tf.float32)[:, None] + positions, tf.range(tf.shape(lines)[1]))
    if blur is not None:
        weights = tf.matmul(gaussian_matrices(size, blur), weights)
    return tf.matmul(weights, tf.cast(lines, tf.float32))


def _positions(samples: np.ndarray, size: int, length: tf.Tensor, flip: tf.Tensor) -> tf.Tensor:
    """Where samples out of `size` lie among `length` pixels, in [0, length - 1].

    Pixel centres are at half-integers; edge pixels extend outwards. length, flip: `[...]`; returns `[..., samples]`.
    """
    length = tf.cast(length, tf.float32)[..., None]
    centres = tf.where(flip[..., None], size - 0.5 - samples, 0.5 + samples)
    return tf.clip_by_value(tf.cast(centres, tf.float32) * length / size - 0.5, 0.0, length - 1)


def _bilinear(positions: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Weights with which `pixels` (their indices) make up samples at `positions`: `[..., samples, pixels]`."""
    return tf.nn.relu(1 - tf.abs(positions[..., None] - tf.cast(pixels, tf.float32)))
