"""Whole views: all that a contrastive method does to an image, in one pass."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from kzoo.augment.blurring import BlurKernel, blur_radius, draw_blur
from kzoo.augment.boxes import draw_crops, draw_flips
from kzoo.augment.colours import draw_greyscale, draw_jitter, linear_colour, solarize
from kzoo.augment.linear import GaussianBlur
from kzoo.augment.pixels import Range, channel_count, extent, sides
from kzoo.augment.rendering import render
from kzoo.random import fold_in


def view(
    images: tf.Tensor,
    keys: tf.Tensor,
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

    Draws as `random_resized_crop`, `color_jitter`, `greyscale`, `gaussian_blur` and `solarize` do from the same keys.
    All that is linear is done together and clipped once. Contrast pivots on the mean of the box before it is resized.

    images: uint8 or float32 `[B, H, W, C]`. Returns float32 `[B, *size, C]` in [0, 1].
    jitter: strengths of brightness, contrast, saturation, hue; the default is SimCLR's at strength 1.
    Make the other view with `fold_in(keys, 1)`.
    """
    images = tf.convert_to_tensor(images)
    boxes, flipped = draw_crops(keys, *extent(images), scale, ratio), draw_flips(keys, flip)
    factors = draw_jitter(keys, *jitter, jitter_p)
    # greyscale is saturation 0
    factors = factors._replace(saturation=tf.where(draw_greyscale(keys, greyscale_p), 0.0, factors.saturation))
    radius = blur_radius(sides(size)[0], kernel=blur_kernel)
    blurring = GaussianBlur(draw_blur(keys, p=blur_p), radius) if blur_p else None
    views = render(images, boxes, flipped, size, linear_colour(factors, channel_count(images)), blurring)
    return solarize(views, keys, solarize_p) if solarize_p else views


def views(
    images: tf.Tensor, keys: tf.Tensor, size: int, settings: Sequence[Mapping[str, Any]], *, name: str = "view"
) -> tf.Tensor:
    """Several views of each image, of one size, as in multi-crop (Caron et al. 2020, SwAV): float32 `[n * B, h, w, C]`.

    settings: of each of the n views, the keywords of `view`. The views of example i come before those of i + 1.
    """
    made = [view(images, fold_in(keys, f"{name}_{number}"), size, **options) for number, options in enumerate(settings)]
    return tf.reshape(tf.stack(made, axis=1), [-1, *made[0].shape[1:]])


def two_views(
    images: tf.Tensor, keys: tf.Tensor, size: int | None, first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tf.Tensor]:
    """Two views of each image: {"view_0": `[B, size, size, C]`, "view_1": the same}.

    size: none: that of the images. first, second: the keywords of `view` for each.
    """
    size = size or images.shape[1]
    return {
        name: view(images, fold_in(keys, name), size, **options)
        for name, options in (("view_0", first), ("view_1", second))
    }


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
