"""Scores of global vectors against the locations of feature maps, which Deep InfoMax and AMDIM share.

Scores are `[b, N, L]`: this replica's b global vectors against the L locations of each of the batch's N images. An
image's own locations are the positives; the negatives are the locations of the *other* images, never its own.
"""

from typing import Any

import keras
import tensorflow as tf

from kzoo import losses, replicas

_MASKED = -1e9  # a score that no log-sum-exp sees


@keras.saving.register_keras_serializable(package="kzoo_contrastive")
class NearIdentity(keras.initializers.Initializer):
    """Ones on the diagonal, elsewhere uniform in ±0.01: a linear shortcut that starts as a copy of its input."""

    def __init__(self) -> None:
        self.noise = keras.initializers.RandomUniform(-0.01, 0.01)  # draws its seed here: each call gives the same

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        noise = self.noise(shape, dtype=dtype)
        diagonal = keras.ops.eye(*shape, dtype=noise.dtype)
        return noise * (1 - diagonal) + diagonal


def pair_scores(vectors: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    """Dot products `[b, N, L]` of this replica's `[b, d]` with every location of all replicas' maps, `[b, h, w, d]`."""
    maps = replicas.gather(maps)
    count, locations = tf.shape(maps)[0], maps.shape[1] * maps.shape[2]
    scores = tf.matmul(vectors, tf.reshape(maps, [-1, maps.shape[3]]), transpose_b=True)
    return tf.reshape(scores, [-1, count, locations])


def own_image(scores: tf.Tensor) -> tf.Tensor:
    """The column of each row's own image, int32 `[b]`."""
    return losses.own_columns(tf.shape(scores)[0])


def positives(scores: tf.Tensor) -> tf.Tensor:
    """Scores of each row with its own image's locations, `[b, L]`."""
    return tf.gather(scores, own_image(scores), axis=1, batch_dims=1)


def negatives(scores: tf.Tensor, masked: float = _MASKED) -> tf.Tensor:
    """The scores with those of each row's own image replaced by `masked`: `[b, N, L]`."""
    own = tf.one_hot(own_image(scores), tf.shape(scores)[1], on_value=True, off_value=False)
    return tf.where(own[:, :, None], tf.cast(masked, scores.dtype), scores)


def negative_count(scores: tf.Tensor) -> tf.Tensor:
    """The number of negatives of one row, (N - 1) L, in the scores' type."""
    return tf.cast((tf.shape(scores)[1] - 1) * scores.shape[2], scores.dtype)


def location_nce(scores: tf.Tensor) -> dict[str, tf.Tensor]:
    """InfoNCE of each positive location against all locations of the other images.

    -log(e^s / (e^s + sum over negatives e^s')), the mean over this replica's images and their locations. All scores
    equal: log(1 + (N - 1) L).

    Returns:
        "loss"; "accuracy", the share of positives above all negatives; "information", log(1 + (N - 1) L) - loss, the
        bound on the mutual information in nats, which is 0 where all scores are equal.
    """
    own, others = positives(scores), negatives(scores)
    loss = tf.reduce_mean(tf.nn.softplus(tf.reduce_logsumexp(others, axis=[1, 2])[:, None] - own))
    best = tf.reduce_max(others, axis=[1, 2])[:, None]
    return {
        "loss": loss,
        "accuracy": tf.reduce_mean(tf.cast(own > best, "float32")),
        "information": tf.math.log1p(negative_count(scores)) - loss,
    }
