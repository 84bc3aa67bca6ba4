"""Colour jitter, greyscale, solarisation, and the colour part of Exemplar-CNN."""

from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kzoo.augment.linear import LinearColour
from kzoo.augment.pixels import channel_count, clip, per_image, where_chosen
from kzoo.data.resize import to_float
from kzoo.random import bernoulli, fold_in, in_double, uniform

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in torchvision and Pillow
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
    keys: tf.Tensor, brightness: float, contrast: float, saturation: float, hue: float, p: float = 0.8
) -> Jitter:
    """With probability p, factors uniform in [1 - strength, 1 + strength] (not below 0), and a hue in [-hue, hue]."""
    keys = fold_in(keys, "color_jitter")
    chosen = bernoulli(fold_in(keys, "chosen"), p)

    def factor(name: str, strength: float) -> tf.Tensor:
        return tf.where(chosen, uniform(fold_in(keys, name), (), max(0.0, 1 - strength), 1 + strength), 1.0)

    turn = tf.where(chosen, uniform(fold_in(keys, "hue"), (), -hue, hue), 0.0)
    return Jitter(
        factor("brightness", brightness), factor("contrast", contrast), factor("saturation", saturation), turn
    )


def draw_greyscale(keys: tf.Tensor, p: float = 0.2) -> tf.Tensor:
    """Which images to turn grey: bool `[B]`."""
    return bernoulli(fold_in(keys, "greyscale"), p)


def linear_colour(factors: Jitter, channels: int) -> LinearColour:
    scale = (factors.brightness * factors.contrast)[:, None, None]
    pivot = ((1 - factors.contrast) * factors.brightness)[:, None]
    if channels == 1:
        return LinearColour(scale, pivot)
    angle = 2 * np.float32(np.pi) * factors.hue
    along = (factors.saturation * in_double(tf.cos, angle) - 1)[:, None, None] * _CHROMA
    across = (factors.saturation * in_double(tf.sin, angle))[:, None, None] * _QUADRATURE
    return LinearColour(scale * (np.eye(3, dtype=np.float32) + along + across), pivot * LUMINANCE)


def jitter(images: tf.Tensor, factors: Jitter) -> tf.Tensor:
    """Change brightness, contrast, saturation and hue of each image in one linear map, and clip to [0, 1] once.

    Brightness scales; contrast scales about the luminance of the mean pixel; saturation scales about each pixel's
    luminance; hue turns the colour about the grey axis at constant luminance (in YIQ). torchvision clips after each of
    the four, so that their order matters and is drawn; without clips in between they commute, and there is no order to
    draw. torchvision also turns hue in HSV, which keeps the largest channel instead of the luminance.
    Grey images have neither saturation nor hue: only brightness and contrast act on them. In double precision: some
    processors round a product of matrices in float32 otherwise in a batch of another size.
    """
    images = to_float(images)
    matrix, pivot = linear_colour(factors, channel_count(images))
    shift = tf.reduce_sum(pivot * tf.reduce_mean(tf.reduce_mean(images, axis=1), axis=1), axis=1)
    return clip(in_double(partial(tf.einsum, "nhwc,ndc->nhwd"), images, matrix) + per_image(shift))


def color_jitter(
    images: tf.Tensor,
    keys: tf.Tensor,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    p: float = 0.8,
) -> tf.Tensor:
    """Random colour (`draw_jitter`, `jitter`); the strengths mean what torchvision's ColorJitter means by them."""
    return jitter(images, draw_jitter(keys, brightness, contrast, saturation, hue, p))


def greyscale(images: tf.Tensor, keys: tf.Tensor, p: float = 0.2) -> tf.Tensor:
    """With probability p, replace the three channels by the luminance. Grey images stay as they are."""
    images = to_float(images)
    if channel_count(images) == 1:
        return images
    chosen = draw_greyscale(keys, p)
    return where_chosen(images, chosen, lambda some: tf.tensordot(some, np.tile(LUMINANCE[:, None], 3), 1))


def solarize(images: tf.Tensor, keys: tf.Tensor, p: float = 0.2, threshold: float = 0.5) -> tf.Tensor:
    """With probability p, invert the values that are not below the threshold: v -> 1 - v."""
    chosen = bernoulli(fold_in(keys, "solarize"), p)
    return where_chosen(to_float(images), chosen, lambda some: tf.where(some >= threshold, 1 - some, some))


class HSVPower(NamedTuple):
    """Parameters of `hsv_power`: for saturation and value (`[B, 2]`) factor * v^power + offset; hue `[B]`, in turns."""

    factor: tf.Tensor
    power: tf.Tensor
    offset: tf.Tensor
    hue: tf.Tensor


def draw_hsv_power(keys: tf.Tensor) -> HSVPower:
    """factor 2^U(-0.5, 0.5), power 2^U(-2, 2), offset U(-0.1, 0.1), hue U(-0.1, 0.1).

    The colour part of Exemplar-CNN (Dosovitskiy et al. 2014, section 2.1), with the ranges of Zhai et al. 2019 (S4L).
    """
    keys = fold_in(keys, "hsv_power_jitter")
    return HSVPower(
        in_double(_two_to, uniform(fold_in(keys, "factor"), (2,), -0.5, 0.5)),
        in_double(_two_to, uniform(fold_in(keys, "power"), (2,), -2.0, 2.0)),
        uniform(fold_in(keys, "offset"), (2,), -0.1, 0.1),
        uniform(fold_in(keys, "hue"), (), -0.1, 0.1),
    )


def _two_to(power: tf.Tensor) -> tf.Tensor:
    return 2.0**power


def hsv_power(images: tf.Tensor, parameters: HSVPower) -> tf.Tensor:
    """Bend saturation and value, turn the hue, in HSV; clipped to [0, 1]. A grey image has only a value."""
    images = to_float(images)
    factor, power, offset = (numbers[:, None, None] for numbers in parameters[:3])  # [B, 1, 1, 2]
    if channel_count(images) == 1:
        return clip(factor[..., 1:] * images ** power[..., 1:] + offset[..., 1:])
    hsv = tf.image.rgb_to_hsv(images)
    hue = (hsv[..., :1] + per_image(parameters.hue)) % 1.0
    return tf.image.hsv_to_rgb(tf.concat([hue, clip(factor * hsv[..., 1:] ** power + offset)], axis=3))


def hsv_power_jitter(images: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Random colour in HSV, for every image (`draw_hsv_power`, `hsv_power`)."""
    return hsv_power(images, draw_hsv_power(keys))
