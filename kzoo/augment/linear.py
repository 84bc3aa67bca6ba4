"""Changes that are linear in the pixels, as matrices: colour, blur, and what mirrored edges are."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class LinearColour(NamedTuple):
    """A linear change of colour: pixel -> matrix @ pixel + pivot . mean pixel, the latter for all channels."""

    matrix: tf.Tensor  # [B, C, C]
    pivot: tf.Tensor  # [B, C]


class GaussianBlur(NamedTuple):
    """Gaussian blur: standard deviations in pixels, float32 `[B]`, 0 for none, and where the kernel is cut off."""

    sigma: tf.Tensor
    radius: int


def gaussian_matrices(size: int, blur: GaussianBlur) -> tf.Tensor:
    """Matrices `[B, size, size + 2 radius]` that blur lines with a margin; for sigma 0 they cut off the margins."""
    distance = np.abs(np.arange(size + 2 * blur.radius) - np.arange(size)[:, None] - blur.radius).astype(np.float32)
    weights = tf.exp(-0.5 * tf.square(distance / tf.maximum(blur.sigma, 1e-3)[:, None, None]))
    weights *= distance <= blur.radius
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def reflected(indices: np.ndarray | tf.Tensor, size: int | tf.Tensor) -> np.ndarray | tf.Tensor:
    """Indices of which those beyond either end are mirrored about it."""
    return size - 1 - abs(size - 1 - abs(indices))


def mirrored(indices: np.ndarray, size: int) -> np.ndarray:
    return np.clip(reflected(indices, size), 0, size - 1)
