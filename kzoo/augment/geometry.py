"""Crops, flips, shifts and quarter turns."""

import tensorflow as tf

from kzoo.augment.boxes import draw_crops, draw_flips
from kzoo.augment.linear import reflected
from kzoo.augment.pixels import Range, extent, per_image
from kzoo.augment.rendering import render
from kzoo.data.resize import to_float
from kzoo.errors import DataError
from kzoo.random import fold_in, integers


def crop(images: tf.Tensor, boxes: tf.Tensor, flip: tf.Tensor, size: int | tuple[int, int]) -> tf.Tensor:
    """Cut out boxes, mirror and resize them: float32 `[B, *size, C]`.

    images: uint8 or float32. boxes: int32 `[B, 4]`, (top, left, height, width). flip: bool `[B]`.
    Bilinear, pixel centres at half-integers, nothing from outside the box; no low-pass filter when a box shrinks
    (Pillow has one: with sources much larger than `size`, shrink them beforehand).
    """
    return render(images, boxes, flip, size)


def random_resized_crop(
    images: tf.Tensor,
    keys: tf.Tensor,
    size: int | tuple[int, int],
    scale: Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> tf.Tensor:
    """A random box of each image (`draw_crops`), mirrored with probability `flip`, resized to `size`."""
    return crop(images, draw_crops(keys, *extent(images), scale, ratio), draw_flips(keys, flip), size)


def horizontal_flip(images: tf.Tensor, keys: tf.Tensor, p: float = 0.5) -> tf.Tensor:
    """Mirror left and right with probability p. Draws as `random_resized_crop` does."""
    images = to_float(images)
    return tf.where(per_image(draw_flips(keys, p)), images[:, :, ::-1], images)


def pad_crop(
    images: tf.Tensor, keys: tf.Tensor, padding: int = 4, mode: str = "reflect", flip: float = 0.5
) -> tf.Tensor:
    """Shift by up to `padding` pixels in each direction: pad (mode "reflect" or "constant", zeros), cut out the size
    that the images had, mirror with probability `flip`. Exact: no interpolation.
    """
    if mode not in ("reflect", "constant"):
        raise DataError(f"pad_crop got mode {mode!r}; give 'reflect' or 'constant'")
    images = to_float(images)
    height, width = extent(images)
    offset = integers(fold_in(keys, "pad_crop"), (2,), 0, 2 * padding + 1)
    rows = offset[:, :1] + tf.range(height)
    columns = offset[:, 1:] + tf.range(width)
    columns = tf.where(draw_flips(keys, flip)[:, None], columns[:, ::-1], columns)
    if mode == "reflect":
        rows, columns = reflected(rows - padding, height), reflected(columns - padding, width)
    else:
        margin = [padding, padding]
        images = tf.pad(images, [[0, 0], margin, margin, [0, 0]])
    return tf.gather(tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def rotate90(images: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
    """Turn image i by k[i] quarter turns counter-clockwise, as `np.rot90` does. Exact.

    k: int32 `[B]`. Images must be square.
    """
    _square(images)
    odd, half = per_image(k % 2 == 1), per_image(k % 4 >= 2)
    images = tf.where(odd, tf.transpose(images, [0, 2, 1, 3])[:, ::-1], images)
    return tf.where(half, images[:, ::-1, ::-1], images)


def rotations4(images: tf.Tensor) -> tf.Tensor:
    """All four rotations of each image: `[4 B, H, W, C]`, image i turned by k quarter turns at 4 i + k.

    So the labels of the result are 0, 1, 2, 3, 0, 1, 2, 3, ...
    """
    _square(images)
    turned = tf.transpose(images, [0, 2, 1, 3])
    four = tf.stack([images, turned[:, ::-1], images[:, ::-1, ::-1], turned[:, :, ::-1]], axis=1)
    return tf.reshape(four, tf.concat([[-1], tf.shape(images)[1:]], axis=0))


def _square(images: tf.Tensor) -> None:
    if images.shape[1] != images.shape[2]:
        raise DataError(f"only square images can be turned by 90 degrees; got {images.shape[1]} x {images.shape[2]}")
