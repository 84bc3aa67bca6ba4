"""Batched, stateless augmentation in TensorFlow: `f(images, seeds, ...) -> images`, parameters drawn per example.

Images are `[B, H, W, C]` with C 1 (grey) or 3 (RGB): float32 in [0, 1], or uint8, which is scaled to [0, 1] first.
The result is float32 in [0, 1]. `seeds` is int64 `[B]` (see `kzoo.random`): each function draws from a stream of its
own, so the same seeds serve a whole chain of different functions; to use one function twice, or to make a second view,
derive seeds with `fold_in`. A probability p is the chance that an example is changed at all.

Most functions come in two parts: `draw_...(seeds, ...)` gives the parameters, and a function of the images and those
parameters does the work.

One fact makes it fast: cropping, resizing, flipping, blurring and changing colour are all linear in the pixels. So
`view` does them together, in whatever order and form is cheapest, and clips once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from kzoo.data.resize import to_float
from kzoo.errors import DataError
from kzoo.random import bernoulli, fold_in, in_double, integers, permutation, uniform

Range = tuple[float, float]

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in torchvision and Pillow

# The largest side, in pixels, at which crops are batched matrix products. Above it their cost, which grows with the
# third power of the side, exceeds that of a loop over images.
_DENSE_SIDE = 64
_ROWS, _COLUMNS = 32, 16  # of a block, in the blur of large images: what is fast
_PIXELS = 4  # recoloured at once: one alone leaves vector units idle


def _unit(images: tf.Tensor) -> np.float32:
    """What one step of the pixel values is worth."""
    return np.float32(1 / 255 if images.dtype == tf.uint8 else 1)


def _clip(images: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ClipByValue(t=images, clip_value_min=0.0, clip_value_max=1.0)  # one pass, tf.clip_by_value is two


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _extent(images: tf.Tensor) -> tuple[int | tf.Tensor, int | tf.Tensor]:
    """Height and width: integers where known, else scalar int32 tensors."""
    shape = tf.shape(images)
    return tuple(
        known if known is not None else shape[axis] for axis, known in ((1, images.shape[1]), (2, images.shape[2]))
    )


def _channels(images: tf.Tensor) -> int:
    if images.shape.rank != 4 or images.shape[3] not in (1, 3):
        raise DataError(f"images have shape {images.shape}; give [batch, height, width, 1 or 3 channels]")
    return images.shape[3]


def _per_image(values: tf.Tensor) -> tf.Tensor:
    """`[B]` to `[B, 1, 1, 1]`."""
    return values[:, None, None, None]


def _where_chosen(images: tf.Tensor, chosen: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Replace the chosen images (bool `[B]`) by what `change` makes of them; no work is spent on the others."""
    indices = tf.where(chosen)
    return tf.cond(
        tf.size(indices) > 0,
        lambda: tf.tensor_scatter_nd_update(images, indices, change(tf.gather_nd(images, indices))),
        lambda: images,
    )


# ---------------------------------------------------------------------------------------------------- crops and flips


def _candidate_boxes(
    seeds: tf.Tensor, height: tf.Tensor, width: tf.Tensor, scale: Range, ratio: Range
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Ten candidate sizes per example: area uniform in `scale` times the image's, log of width / height uniform.

    Returns the height and width of the first that fits the image (int32 `[B]`), and whether any did (bool `[B]`).
    """
    area = tf.cast(height * width, tf.float32) * uniform(fold_in(seeds, "area"), (10,), *scale)
    aspect = in_double(tf.exp, uniform(fold_in(seeds, "ratio"), (10,), math.log(ratio[0]), math.log(ratio[1])))
    heights = tf.cast(tf.round(tf.sqrt(area / aspect)), tf.int32)
    widths = tf.cast(tf.round(tf.sqrt(area * aspect)), tf.int32)
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
    return tf.gather(heights, first, batch_dims=1), tf.gather(widths, first, batch_dims=1), tf.reduce_any(fits, axis=1)


def _placed(seeds: tf.Tensor, heights: tf.Tensor, widths: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Boxes of the given sizes at uniformly random places inside the image: int32 `[B, 4]`."""
    top = integers(fold_in(seeds, "top"), (), 0, height - heights + 1)
    left = integers(fold_in(seeds, "left"), (), 0, width - widths + 1)
    return tf.stack([top, left, heights, widths], axis=1)


def draw_crops(
    seeds: tf.Tensor,
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
    seeds = fold_in(seeds, "crop")
    height, width = tf.convert_to_tensor(height), tf.convert_to_tensor(width)
    heights, widths, found = _candidate_boxes(seeds, height, width, scale, ratio)
    boxes = _placed(seeds, tf.where(found, heights, 1), tf.where(found, widths, 1), height, width)
    tallest = tf.minimum(height, tf.cast(tf.round(tf.cast(width, tf.float32) / ratio[0]), tf.int32))
    widest = tf.minimum(width, tf.cast(tf.round(tf.cast(height, tf.float32) * ratio[1]), tf.int32))
    central = tf.stack([(height - tallest) // 2, (width - widest) // 2, tallest, widest])
    return tf.where(found[:, None], boxes, central)


def draw_flips(seeds: tf.Tensor, p: float = 0.5) -> tf.Tensor:
    """Which images to mirror: bool `[B]`."""
    return bernoulli(fold_in(seeds, "flip"), p)


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


def _reflected(indices: np.ndarray | tf.Tensor, size: int | tf.Tensor) -> np.ndarray | tf.Tensor:
    """Indices of which those beyond either end are mirrored about it."""
    return size - 1 - abs(size - 1 - abs(indices))


def _mirrored(indices: np.ndarray, size: int) -> np.ndarray:
    return np.clip(_reflected(indices, size), 0, size - 1)


def _gaussian(size: int, blur: "_Blur") -> tf.Tensor:
    """Matrices `[B, size, size + 2 radius]` that blur lines with a margin; for sigma 0 they cut off the margins."""
    distance = np.abs(np.arange(size + 2 * blur.radius) - np.arange(size)[:, None] - blur.radius).astype(np.float32)
    weights = tf.exp(-0.5 * tf.square(distance / tf.maximum(blur.sigma, 1e-3)[:, None, None]))
    weights *= distance <= blur.radius
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


class _Colour(NamedTuple):
    """A linear change of colour: pixel -> matrix @ pixel + pivot . mean pixel, the latter for all channels."""

    matrix: tf.Tensor  # [B, C, C]
    pivot: tf.Tensor  # [B, C]


class _Blur(NamedTuple):
    """Gaussian blur: standard deviations in pixels, float32 `[B]`, 0 for none, and where the kernel is cut off."""

    sigma: tf.Tensor
    radius: int


def _mean_in_box(pixels: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """The mean colour inside each box: float32 `[B, C]`."""

    def share(start: tf.Tensor, length: tf.Tensor, size: int | tf.Tensor) -> tf.Tensor:
        pixel = tf.range(size)
        inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
        return (tf.cast(inside, tf.float32) / tf.cast(length, tf.float32)[:, None])[:, None]

    (height, width), channels = _extent(pixels), pixels.shape[3]
    row = tf.matmul(share(boxes[:, 0], boxes[:, 2], height), tf.reshape(pixels, [-1, height, width * channels]))
    return tf.matmul(share(boxes[:, 1], boxes[:, 3], width), tf.reshape(row, [-1, width, channels]))[:, 0]


def _sample(
    lines: tf.Tensor, start: tf.Tensor, length: tf.Tensor, flip: tf.Tensor, size: int, blur: _Blur | None
) -> tf.Tensor:
    """Resample the lines start, ..., start + length - 1 of `[B, lines, M]` to float32 `[B, size, M]`, and blur them.

    A product with one matrix per image.
    """
    radius = 0 if blur is None else blur.radius
    positions = _positions(_mirrored(np.arange(-radius, size + radius), size), size, length, flip)
    weights = _bilinear(tf.cast(start, tf.float32)[:, None] + positions, tf.range(tf.shape(lines)[1]))
    if blur is not None:
        weights = tf.matmul(_gaussian(size, blur), weights)
    return tf.matmul(weights, tf.cast(lines, tf.float32))


def _sample_batch(
    images: tf.Tensor, boxes: tf.Tensor, flip: tf.Tensor, size: tuple[int, int], blur: _Blur | None
) -> tf.Tensor:
    """Crop, mirror, resize and blur all images at once, in their own units: float32 `[B, *size, C]`."""
    (height, width), channels = _extent(images), _channels(images)
    columns = tf.reshape(tf.transpose(images, [0, 2, 1, 3]), [-1, width, height * channels])
    columns = _sample(columns, boxes[:, 1], boxes[:, 3], flip, size[1], blur)
    rows = tf.transpose(tf.reshape(columns, [-1, size[1], height, channels]), [0, 2, 1, 3])
    rows = tf.reshape(rows, [-1, height, size[1] * channels])
    views = _sample(rows, boxes[:, 0], boxes[:, 2], tf.zeros_like(flip), size[0], blur)
    return tf.reshape(views, [-1, *size, channels])


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
    windows = tf.gather(tf.reshape(image, [height, -1]), _mirrored(rows, height))
    blurred = tf.reshape(tf.matmul(matrix, windows), [-1, width, channels])
    return blurred[:height]


def _with_margins(image: tf.Tensor, left: int, right: int) -> tf.Tensor:
    """Add mirrored columns to one image."""
    width = image.shape[1]
    margins = (_mirrored(np.arange(*ends), width) for ends in ((-left, 0), (width, width + right)))
    before, after = (tf.gather(image, columns, axis=1) for columns in margins)
    return tf.concat([before, image, after], axis=1)


def _render(
    images: tf.Tensor,
    boxes: tf.Tensor,
    flip: tf.Tensor,
    size: int | tuple[int, int],
    colour: _Colour | None = None,
    blur: _Blur | None = None,
) -> tf.Tensor:
    """Crop, mirror, resize, blur and recolour, then clip to [0, 1]: float32 `[B, *size, C]`.

    Small images all at once; large ones one by one, while they are in the processor's cache.
    """
    images, size = tf.convert_to_tensor(images), _sides(size)
    unit = _unit(images)
    colour = None if colour is None else _Colour(colour.matrix * unit, colour.pivot * unit)

    if all(side is not None and side <= _DENSE_SIDE for side in (*images.shape[1:3], *size)):
        views = _sample_batch(images, boxes, flip, size, blur)
        if colour is None:
            return _clip(views * unit)
        shift = tf.reduce_sum(colour.pivot * _mean_in_box(tf.cast(images, tf.float32), boxes), axis=1)
        return _clip(tf.einsum("nhwc,ndc->nhwd", views, colour.matrix) + _per_image(shift))

    return _render_one_by_one(images, boxes, flip, size, colour, blur)


def _render_one_by_one(
    images: tf.Tensor,
    boxes: tf.Tensor,
    flip: tf.Tensor,
    size: tuple[int, int],
    colour: _Colour | None,
    blur: _Blur | None,
) -> tf.Tensor:
    """`_render` as a loop. Colour, and with it the blur along rows, is a convolution over blocks of columns."""
    (height, width), channels, unit = size, _channels(images), _unit(images)
    matrix = np.eye(channels, dtype=np.float32)[None] * unit if colour is None else colour.matrix
    together = math.gcd(width, _PIXELS)
    recolour = _filters(np.eye(together, dtype=np.float32)[None], matrix)
    recolour = tf.reshape(recolour, [-1, 1, together * channels, together * channels])
    if blur is not None:
        radius = blur.radius
        down, across = _gaussian(_ROWS, blur), _filters(_gaussian(_COLUMNS, blur), matrix)

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


def crop(images: tf.Tensor, boxes: tf.Tensor, flip: tf.Tensor, size: int | tuple[int, int]) -> tf.Tensor:
    """Cut out boxes, mirror and resize them: float32 `[B, *size, C]`.

    images: uint8 or float32. boxes: int32 `[B, 4]`, (top, left, height, width). flip: bool `[B]`.
    Bilinear, pixel centres at half-integers, nothing from outside the box; no low-pass filter when a box shrinks
    (Pillow has one: with sources much larger than `size`, shrink them beforehand).
    """
    return _render(images, boxes, flip, size)


def random_resized_crop(
    images: tf.Tensor,
    seeds: tf.Tensor,
    size: int | tuple[int, int],
    scale: Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> tf.Tensor:
    """A random box of each image (`draw_crops`), mirrored with probability `flip`, resized to `size`."""
    return crop(images, draw_crops(seeds, *_extent(images), scale, ratio), draw_flips(seeds, flip), size)


def horizontal_flip(images: tf.Tensor, seeds: tf.Tensor, p: float = 0.5) -> tf.Tensor:
    """Mirror left and right with probability p. Draws as `random_resized_crop` does."""
    images = to_float(images)
    return tf.where(_per_image(draw_flips(seeds, p)), images[:, :, ::-1], images)


def pad_crop(
    images: tf.Tensor, seeds: tf.Tensor, padding: int = 4, mode: str = "reflect", flip: float = 0.5
) -> tf.Tensor:
    """Shift by up to `padding` pixels in each direction: pad (mode "reflect" or "constant", zeros), cut out the size
    that the images had, mirror with probability `flip`. Exact: no interpolation.
    """
    if mode not in ("reflect", "constant"):
        raise DataError(f"pad_crop got mode {mode!r}; give 'reflect' or 'constant'")
    images = to_float(images)
    height, width = _extent(images)
    offset = integers(fold_in(seeds, "pad_crop"), (2,), 0, 2 * padding + 1)
    rows = offset[:, :1] + tf.range(height)
    columns = offset[:, 1:] + tf.range(width)
    columns = tf.where(draw_flips(seeds, flip)[:, None], columns[:, ::-1], columns)
    if mode == "reflect":
        rows, columns = _reflected(rows - padding, height), _reflected(columns - padding, width)
    else:
        margin = [padding, padding]
        images = tf.pad(images, [[0, 0], margin, margin, [0, 0]])
    return tf.gather(tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def rotate90(images: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
    """Turn image i by k[i] quarter turns counter-clockwise, as `np.rot90` does. Exact.

    k: int32 `[B]`. Images must be square.
    """
    _square(images)
    odd, half = _per_image(k % 2 == 1), _per_image(k % 4 >= 2)
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


# -------------------------------------------------------------------------------------------------------------- colour

_TO_YIQ = np.array([LUMINANCE, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float64)
_CHROMA = (np.eye(3) - LUMINANCE).astype(np.float32)  # a colour less the grey of its luminance
_QUARTER_TURN = np.array([[0, 0, 0], [0, 0, 1], [0, -1, 0]])  # in YIQ, towards yellow from red
_QUADRATURE = (np.linalg.inv(_TO_YIQ) @ _QUARTER_TURN @ _TO_YIQ).astype(np.float32)


class Jitter(NamedTuple):
    """Factors of a colour jitter, each float32 `[B]`: 1, 1, 1 and 0 change nothing."""

    brightness: tf.Tensor
    contrast: tf.Tensor
    saturation: tf.Tensor
    hue: tf.Tensor  # fraction of a turn, towards yellow from red


def draw_jitter(
    seeds: tf.Tensor, brightness: float, contrast: float, saturation: float, hue: float, p: float = 0.8
) -> Jitter:
    """With probability p, factors uniform in [1 - strength, 1 + strength] (not below 0), and a hue in [-hue, hue]."""
    seeds = fold_in(seeds, "color_jitter")
    chosen = bernoulli(fold_in(seeds, "chosen"), p)

    def factor(name: str, strength: float) -> tf.Tensor:
        return tf.where(chosen, uniform(fold_in(seeds, name), (), max(0.0, 1 - strength), 1 + strength), 1.0)

    turn = tf.where(chosen, uniform(fold_in(seeds, "hue"), (), -hue, hue), 0.0)
    return Jitter(
        factor("brightness", brightness), factor("contrast", contrast), factor("saturation", saturation), turn
    )


def draw_greyscale(seeds: tf.Tensor, p: float = 0.2) -> tf.Tensor:
    """Which images to turn grey: bool `[B]`."""
    return bernoulli(fold_in(seeds, "greyscale"), p)


def _colour(factors: Jitter, channels: int) -> _Colour:
    scale = (factors.brightness * factors.contrast)[:, None, None]
    pivot = ((1 - factors.contrast) * factors.brightness)[:, None]
    if channels == 1:
        return _Colour(scale, pivot)
    angle = 2 * np.float32(np.pi) * factors.hue
    along = (factors.saturation * in_double(tf.cos, angle) - 1)[:, None, None] * _CHROMA
    across = (factors.saturation * in_double(tf.sin, angle))[:, None, None] * _QUADRATURE
    return _Colour(scale * (np.eye(3, dtype=np.float32) + along + across), pivot * LUMINANCE)


def jitter(images: tf.Tensor, factors: Jitter) -> tf.Tensor:
    """Change brightness, contrast, saturation and hue of each image in one linear map, and clip to [0, 1] once.

    Brightness scales; contrast scales about the luminance of the mean pixel; saturation scales about each pixel's
    luminance; hue turns the colour about the grey axis at constant luminance (in YIQ). torchvision clips after each of
    the four, so that their order matters and is drawn; without clips in between they commute, and there is no order to
    draw. torchvision also turns hue in HSV, which keeps the largest channel instead of the luminance.
    Grey images have neither saturation nor hue: only brightness and contrast act on them.
    """
    images = to_float(images)
    matrix, pivot = _colour(factors, _channels(images))
    shift = tf.reduce_sum(pivot * tf.reduce_mean(tf.reduce_mean(images, axis=1), axis=1), axis=1)
    return _clip(tf.einsum("nhwc,ndc->nhwd", images, matrix) + _per_image(shift))


def color_jitter(
    images: tf.Tensor,
    seeds: tf.Tensor,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    p: float = 0.8,
) -> tf.Tensor:
    """Random colour (`draw_jitter`, `jitter`); the strengths mean what torchvision's ColorJitter means by them."""
    return jitter(images, draw_jitter(seeds, brightness, contrast, saturation, hue, p))


def greyscale(images: tf.Tensor, seeds: tf.Tensor, p: float = 0.2) -> tf.Tensor:
    """With probability p, replace the three channels by the luminance. Grey images stay as they are."""
    images = to_float(images)
    if _channels(images) == 1:
        return images
    chosen = draw_greyscale(seeds, p)
    return _where_chosen(images, chosen, lambda some: tf.tensordot(some, np.tile(LUMINANCE[:, None], 3), 1))


def solarize(images: tf.Tensor, seeds: tf.Tensor, p: float = 0.2, threshold: float = 0.5) -> tf.Tensor:
    """With probability p, invert the values that are not below the threshold: v -> 1 - v."""
    chosen = bernoulli(fold_in(seeds, "solarize"), p)
    return _where_chosen(to_float(images), chosen, lambda some: tf.where(some >= threshold, 1 - some, some))


class HSVPower(NamedTuple):
    """Parameters of `hsv_power`: for saturation and value (`[B, 2]`) factor * v^power + offset; hue `[B]`, in turns."""

    factor: tf.Tensor
    power: tf.Tensor
    offset: tf.Tensor
    hue: tf.Tensor


def draw_hsv_power(seeds: tf.Tensor) -> HSVPower:
    """factor 2^U(-0.5, 0.5), power 2^U(-2, 2), offset U(-0.1, 0.1), hue U(-0.1, 0.1).

    The colour part of Exemplar-CNN (Dosovitskiy et al. 2014, section 2.1), with the ranges of Zhai et al. 2019 (S4L).
    """
    seeds = fold_in(seeds, "hsv_power_jitter")
    return HSVPower(
        in_double(_two_to, uniform(fold_in(seeds, "factor"), (2,), -0.5, 0.5)),
        in_double(_two_to, uniform(fold_in(seeds, "power"), (2,), -2.0, 2.0)),
        uniform(fold_in(seeds, "offset"), (2,), -0.1, 0.1),
        uniform(fold_in(seeds, "hue"), (), -0.1, 0.1),
    )


def _two_to(power: tf.Tensor) -> tf.Tensor:
    return 2.0**power


def hsv_power(images: tf.Tensor, parameters: HSVPower) -> tf.Tensor:
    """Bend saturation and value, turn the hue, in HSV; clipped to [0, 1]. A grey image has only a value."""
    images = to_float(images)
    factor, power, offset = (numbers[:, None, None] for numbers in parameters[:3])  # [B, 1, 1, 2]
    if _channels(images) == 1:
        return _clip(factor[..., 1:] * images ** power[..., 1:] + offset[..., 1:])
    hsv = tf.image.rgb_to_hsv(images)
    hue = (hsv[..., :1] + _per_image(parameters.hue)) % 1.0
    return tf.image.hsv_to_rgb(tf.concat([hue, _clip(factor * hsv[..., 1:] ** power + offset)], axis=3))


def hsv_power_jitter(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Random colour in HSV, for every image (`draw_hsv_power`, `hsv_power`)."""
    return hsv_power(images, draw_hsv_power(seeds))


# ---------------------------------------------------------------------------------------------------------------- blur


def draw_blur(seeds: tf.Tensor, sigma: Range = (0.1, 2.0), p: float = 0.5) -> tf.Tensor:
    """Standard deviations in pixels, float32 `[B]`: with probability p uniform in `sigma`, else 0."""
    seeds = fold_in(seeds, "gaussian_blur")
    return tf.where(bernoulli(fold_in(seeds, "chosen"), p), uniform(fold_in(seeds, "sigma"), (), *sigma), 0.0)


BlurKernel = Literal["share", "full"]


def blur_radius(height: int, sigma: Range = (0.1, 2.0), kernel: int | BlurKernel = "share") -> int:
    """Half of the kernel, which has so many pixels; or a "share", a tenth of the height, made odd, at least 3 (SimCLR).

    Never more than three times the largest sigma: what lies beyond weighs 0.1 %, less than a step of 8-bit colour. So
    much "full" has in any case, like Pillow's filter: in small images a share cuts the kernel off (at 32 pixels a sigma
    of 2 then blurs as one of 0.8 does).
    """
    whole = math.ceil(3 * sigma[1])
    if kernel == "full":
        return whole
    return min(whole, (max(3, height // 10 // 2 * 2 + 1) if kernel == "share" else kernel) // 2)


def blur(images: tf.Tensor, sigma: tf.Tensor, radius: int) -> tf.Tensor:
    """Gaussian blur with a standard deviation per image, float32 `[B]` in pixels, 0 for none; mirrored edges.

    radius: the kernel is cut off beyond so many pixels, and normalised.
    """
    height, width = images.shape[1:3]
    if height is None or width is None:
        raise DataError(
            f"gaussian_blur needs images of known size, got shape {images.shape}; resize or crop them first"
        )
    whole = tf.repeat([[0, 0, height, width]], tf.shape(images)[0], axis=0)
    return _render(images, whole, tf.zeros_like(sigma, tf.bool), (height, width), blur=_Blur(sigma, radius))


def gaussian_blur(
    images: tf.Tensor,
    seeds: tf.Tensor,
    sigma: Range = (0.1, 2.0),
    p: float = 0.5,
    kernel: int | BlurKernel = "share",
) -> tf.Tensor:
    """With probability p, blur (`draw_blur`, `blur_radius`, `blur`; Chen et al. 2020, SimCLR, appendix A)."""
    radius = blur_radius(images.shape[1] or 0, sigma, kernel)
    return blur(images, draw_blur(seeds, sigma, p), radius)


# ------------------------------------------------------------------------------------------------------------- erasing


def draw_erasures(
    seeds: tf.Tensor,
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
    seeds = fold_in(seeds, "random_erasing")
    height, width = tf.convert_to_tensor(height), tf.convert_to_tensor(width)
    heights, widths, found = _candidate_boxes(seeds, height, width, scale, ratio)
    erased = found & bernoulli(fold_in(seeds, "chosen"), p)
    return _placed(seeds, tf.where(erased, heights, 0), tf.where(erased, widths, 0), height, width)


def erase(images: tf.Tensor, boxes: tf.Tensor, value: float = 0.0) -> tf.Tensor:
    """Fill boxes (int32 `[B, 4]`) with a value."""
    images = to_float(images)
    height, width = _extent(images)
    top, left, heights, widths = (number[:, None] for number in tf.unstack(boxes, axis=1))
    rows = (tf.range(height) >= top) & (tf.range(height) < top + heights)
    columns = (tf.range(width) >= left) & (tf.range(width) < left + widths)
    return tf.where((rows[:, :, None] & columns[:, None, :])[..., None], value, images)


def random_erasing(
    images: tf.Tensor,
    seeds: tf.Tensor,
    p: float = 0.5,
    scale: Range = (0.02, 0.33),
    ratio: Range = (0.3, 3.3),
    value: float = 0.0,
) -> tf.Tensor:
    """With probability p, fill a random box with a value (`draw_erasures`, `erase`)."""
    return erase(images, draw_erasures(seeds, *_extent(images), p, scale, ratio), value)


def patch_mask(seeds: tf.Tensor, grid: tuple[int, int], ratio: float) -> tf.Tensor:
    """Hide patches: bool `[B, rows * columns]`, true for the hidden; N - int(N (1 - ratio)) of the N, the same for all.

    Every set of that size is equally likely (He et al. 2022, MAE, which keeps int(N (1 - ratio)) patches).
    """
    patches = grid[0] * grid[1]
    hidden = patches - int(patches * (1 - ratio))
    return permutation(fold_in(seeds, "patch_mask"), patches) < hidden


# ---------------------------------------------------------------------------------------------------------------- view


def view(
    images: tf.Tensor,
    seeds: tf.Tensor,
    size: int | tuple[int, int],
    *,
    scale: Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
    flip: float = 0.5,
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2),
    jitter_p: float = 0.8,
    greyscale_p: float = 0.2,
    blur_p: float = 0.5,
    blur_kernel: BlurKernel = "share",
    solarize_p: float = 0.0,
) -> tf.Tensor:
    """One view of each image: crop, flip, colour jitter, greyscale, blur, solarize, as in SimCLR, MoCo v2 and BYOL.

    Draws as `random_resized_crop`, `color_jitter`, `greyscale`, `gaussian_blur` and `solarize` do from the same seeds.
    All that is linear is done together and clipped once. Contrast pivots on the mean of the box before it is resized.

    images: uint8 or float32 `[B, H, W, C]`. Returns float32 `[B, *size, C]` in [0, 1].
    jitter: strengths of brightness, contrast, saturation, hue; the default is SimCLR's at strength 1.
    Make the other view with `fold_in(seeds, 1)`.
    """
    images = tf.convert_to_tensor(images)
    boxes, flipped = draw_crops(seeds, *_extent(images), scale, ratio), draw_flips(seeds, flip)
    factors = draw_jitter(seeds, *jitter, jitter_p)
    # greyscale is saturation 0
    factors = factors._replace(saturation=tf.where(draw_greyscale(seeds, greyscale_p), 0.0, factors.saturation))
    radius = blur_radius(_sides(size)[0], kernel=blur_kernel)
    blurring = _Blur(draw_blur(seeds, p=blur_p), radius) if blur_p else None
    views = _render(images, boxes, flipped, size, _colour(factors, _channels(images)), blurring)
    return solarize(views, seeds, solarize_p) if solarize_p else views


def views(
    images: tf.Tensor, keys: tf.Tensor, size: int, settings: Sequence[Mapping[str, Any]], *, name: str = "view"
) -> tf.Tensor:
    """Several views of each image, of one size, as in multi-crop (Caron et al. 2020, SwAV): float32 `[n * B, h, w, C]`.

    settings: of each of the n views, the keywords of `view`. The views of example i come before those of i + 1.
    """
    made = [view(images, fold_in(keys, f"{name}_{number}"), size, **options) for number, options in enumerate(settings)]
    return tf.reshape(tf.stack(made, axis=1), [-1, *made[0].shape[1:]])


def multi_crop(
    images: tf.Tensor,
    keys: tf.Tensor,
    large: Sequence[Mapping[str, Any]],
    small: Sequence[Mapping[str, Any]],
    *,
    size: int | None = None,
    small_size: int | None = None,
    share: float = 3 / 7,
) -> dict[str, tf.Tensor]:
    """Views of two sizes (Caron et al. 2020, SwAV): {"large": `[nB, H, W, C]`, "small": `[mB, h, w, C]`}.

    large, small: the settings of each, as for `views`; without small views, no "small". size: side of the large ones;
    none: that of the images. small_size: of the small ones; none: `share` of the large ones' (96 of 224), at least 8.
    """
    size = size or images.shape[1]
    ready = {"large": views(images, keys, size, large, name="large")}
    if small:
        ready["small"] = views(images, keys, small_size or max(8, round(size * share)), small, name="small")
    return ready
