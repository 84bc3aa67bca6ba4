"""Gaussian blur."""

import math
from typing import Literal

import tensorflow as tf

from kzoo.augment.linear import GaussianBlur
from kzoo.augment.pixels import Range
from kzoo.augment.rendering import render
from kzoo.errors import DataError
from kzoo.random import bernoulli, fold_in, uniform

BlurKernel = Literal["share", "full"]


def draw_blur(keys: tf.Tensor, sigma: Range = (0.1, 2.0), p: float = 0.5) -> tf.Tensor:
    """Standard deviations in pixels, float32 `[B]`: with probability p uniform in `sigma`, else 0."""
    keys = fold_in(keys, "gaussian_blur")
    return tf.where(bernoulli(fold_in(keys, "chosen"), p), uniform(fold_in(keys, "sigma"), (), *sigma), 0.0)


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
    return render(images, whole, tf.zeros_like(sigma, tf.bool), (height, width), blur=GaussianBlur(sigma, radius))


def gaussian_blur(
    images: tf.Tensor,
    keys: tf.Tensor,
    sigma: Range = (0.1, 2.0),
    p: float = 0.5,
    kernel: int | BlurKernel = "share",
) -> tf.Tensor:
    """With probability p, blur (`draw_blur`, `blur_radius`, `blur`; Chen et al. 2020, SimCLR, appendix A)."""
    radius = blur_radius(images.shape[1] or 0, sigma, kernel)
    return blur(images, draw_blur(keys, sigma, p), radius)
