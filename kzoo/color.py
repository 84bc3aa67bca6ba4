"""sRGB to CIE L*a*b* and back, under the D65 white point (IEC 61966-2-1, CIE 15); differentiable, in any float type."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

# linear RGB to XYZ (rows X, Y, Z); the white point is its answer to (1, 1, 1), so that white has a = b = 0 exactly
_TO_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
_WHITE = _TO_XYZ.sum(axis=1)
_TO_LAB = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])
_EDGE = 6.0 / 29.0  # below its cube, the cube root is replaced by a line


def rgb_to_lab(images: tf.Tensor) -> tf.Tensor:
    """L in 0..100, a and b in about -128..127, `[..., 3]`, of sRGB images in [0, 1] `[..., 3]`."""
    low = images <= 0.04045
    linear = tf.where(low, images / 12.92, ((tf.where(low, 1.0, images) + 0.055) / 1.055) ** 2.4)
    ratio = _times(linear, _TO_XYZ / _WHITE[:, None])
    low = ratio <= _EDGE**3
    # the branch not taken must have a finite derivative too: cube root of 1, not of 0
    root = tf.where(low, ratio / (3 * _EDGE**2) + 4.0 / 29.0, tf.where(low, 1.0, ratio) ** (1.0 / 3.0))
    return _times(root, _TO_LAB) - tf.constant([16.0, 0.0, 0.0], images.dtype)


def lab_to_rgb(lab: tf.Tensor) -> tf.Tensor:
    """The sRGB image in [0, 1] of L*a*b* values, `[..., 3]`; colours that sRGB does not have are clipped."""
    root = _times(lab + tf.constant([16.0, 0.0, 0.0], lab.dtype), np.linalg.inv(_TO_LAB))
    ratio = tf.where(root <= _EDGE, 3 * _EDGE**2 * (root - 4.0 / 29.0), root**3)
    linear = tf.clip_by_value(_times(ratio, np.linalg.inv(_TO_XYZ / _WHITE[:, None])), 0.0, 1.0)
    low = linear <= 0.0031308
    return tf.where(low, 12.92 * linear, 1.055 * tf.where(low, 1.0, linear) ** (1 / 2.4) - 0.055)


@keras.saving.register_keras_serializable(package="kzoo")
class RGBToLab(keras.layers.Layer):
    """`rgb_to_lab` inside a Functional model; images `[B, H, W, 3]` in [0, 1]."""

    def call(self, images: Any) -> tf.Tensor:
        return rgb_to_lab(tf.convert_to_tensor(images))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


def _times(x: tf.Tensor, matrix: np.ndarray) -> tf.Tensor:
    return tf.tensordot(x, tf.constant(matrix.T, x.dtype), 1)
