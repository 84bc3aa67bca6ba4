"""Crop, mirror, resize, blur and recolour large images one by one, while they are in the processor's cache."""

import math

import numpy as np
import tensorflow as tf

from kzoo.augment.linear import GaussianBlur, LinearColour, gaussian_matrices, mirrored
from kzoo.augment.pixels import channel_count, pixel_step

_ROWS, _COLUMNS = 32, 16  # of a block, in the blur of large images: what is fast
_PIXELS = 4  # recoloured at once: one alone leaves vector units idle


def render_one_by_one(
    images: tf.Tensor,
    boxes: tf.Tensor,
    flip: tf.Tensor,
    size: tuple[int, int],
    colour: LinearColour | None,
    blur: GaussianBlur | None,
) -> tf.Tensor:
    """`render` as a loop. Colour, and with it the blur along rows, is a convolution over blocks of columns."""
    (height, width), channels, unit = size, channel_count(images), pixel_step(images)
    matrix = np.eye(channels, dtype=np.float32)[None] * unit if colour is None else colour.matrix
    together = math.gcd(width, _PIXELS)
    recolour = _filters(np.eye(together, dtype=np.float32)[None], matrix)
    recolour = tf.reshape(recolour, [-1, 1, together * channels, together * channels])
    if blur is not None:
        radius = blur.radius
        down, across = gaussian_matrices(_ROWS, blur), _filters(gaussian_matrices(_COLUMNS, blur), matrix)

    def one(i: tf.Tensor) -> tf.Tensor:
        y, x, tall, wide = tf.unstack(boxes[i])
        pixels = tf.cast(images[i, y : y + tall, x : x + wide], tf.float32)
        view, shift = _sample_one(pixels, flip[i], size), tf.constant(0.0)
        if colour is not None:
            mean = tf.reduce_mean(tf.reduce_mean(pixels, axis=0), axis=0)  # in two steps: the first is vectorised
            shift = tf.reduce_sum(colour.pivot[i] * mean)

        def sharp() -> tf.Tensor:
            if colour is None:
                return tf.nn.relu(view * unit)
            several = tf.reshape(view, [height, -1, together * channels])
            return tf.reshape(_convolve(several, recolour[i], 1, shift), view.shape)

        def blurred() -> tf.Tensor:
            padded = _with_margins(_blur_rows(view, down[i]), radius, -width % _COLUMNS + radius)
            return tf.reshape(_convolve(padded, across[i], _COLUMNS, shift), [height, -1, channels])[:, :width]

        view = sharp() if blur is None else tf.cond(blur.sigma[i] > 0, blurred, sharp)
        return tf.minimum(view, 1.0)

    indices = tf.range(tf.shape(images)[0])
    return tf.map_fn(one, indices, fn_output_signature=tf.TensorSpec([*size, channels], tf.float32))


def _sample_one(pixels: tf.Tensor, flip: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Mirror and resize one image `[H, W, C]`."""
    pixels = tf.cond(flip, lambda: tf.reverse(pixels, [1]), lambda: pixels)
    return tf.raw_ops.ResizeBilinear(images=pixels[None], size=size, half_pixel_centers=True)[0]


def _convolve(image: tf.Tensor, filters: tf.Tensor, stride: int, shift: tf.Tensor) -> tf.Tensor:
    """Along the columns of one image `[H, W, C]`: max(0, filters * image + shift), `[H, (W - window) / stride + 1, D]`.

    filters: `[window, C, D]`. TensorFlow fuses bias and ReLU into the convolution: two passes less over the memory.
    """
    image = tf.nn.conv2d(image[None], filters[None], [1, stride], "VALID")
    return tf.nn.relu(tf.nn.bias_add(image, tf.fill([filters.shape[2]], shift)))[0]


def _filters(weights: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Filters `[B, inputs, C, outputs * C]` that apply `[B, outputs, inputs]` to columns and `[B, C, C]` to colours."""
    product = tf.transpose(weights[:, :, :, None, None] * matrix[:, None, None], [0, 2, 4, 1, 3])
    inputs, channels, outputs = product.shape[1:4]
    return tf.reshape(product, [-1, inputs, channels, outputs * channels])


def _blur_rows(image: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Blur one image down its columns: blocks of rows are the matrix `[block, block + 2 radius]` times the windows."""
    height, width, channels = image.shape
    block, window = matrix.shape
    rows = np.arange(0, height, block)[:, None] + np.arange(window) - (window - block) // 2
    windows = tf.gather(tf.reshape(image, [height, -1]), mirrored(rows, height))
    blurred = tf.reshape(tf.matmul(matrix, windows), [-1, width, channels])
    return blurred[:height]


def _with_margins(image: tf.Tensor, left: int, right: int) -> tf.Tensor:
    """Add mirrored columns to one image."""
    width = image.shape[1]
    margins = (mirrored(np.arange(*ends), width) for ends in ((-left, 0), (width, width + right)))
    before, after = (tf.gather(image, columns, axis=1) for columns in margins)
    return tf.concat([before, image, after], axis=1)
