"""Second moments of embeddings over the whole batch, of all replicas."""

import numpy as np
import tensorflow as tf

from kzoo import replicas

PAIRS = 6  # examples whose views are drawn beside the moments
_UNITS = 64  # whose moments are drawn


def centred(z: tf.Tensor) -> tf.Tensor:
    """Rows `[b, d]` less the mean over the rows of all replicas."""
    return z - replicas.mean(tf.reduce_mean(z, axis=0))


def moments(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The mean of x_i y_j over the rows of all replicas, `[d, d]`, of rows `[b, d]`."""
    return replicas.mean(tf.matmul(x, y, transpose_a=True) / tf.cast(tf.shape(x)[0], x.dtype))


def covariances(z: tf.Tensor) -> tf.Tensor:
    """The covariances `[d, d]` of the n rows `[b, d]` of all replicas: sums over n - 1."""
    z = centred(z)
    n = tf.cast(tf.shape(z)[0] * replicas.count(), z.dtype)
    return moments(z, z) * n / (n - 1.0)


def off_diagonal(matrix: tf.Tensor) -> tf.Tensor:
    """The matrix with zeros on its diagonal."""
    return tf.linalg.set_diag(matrix, tf.zeros_like(tf.linalg.diag_part(matrix)))


def picture(title: str, matrix: tf.Tensor) -> dict[str, np.ndarray]:
    """The sizes of the first units' moments, to be drawn: black 0, white the largest."""
    sizes = np.abs(matrix)[:_UNITS, :_UNITS].astype("float32")
    return {f"{title}, {len(sizes)} units": (sizes / max(sizes.max(), 1e-12))[None, :, :, None]}
