"""Noise-contrastive estimation against a memory bank; instance discrimination, local aggregation and CMC share it."""

import math

import keras
import tensorflow as tf

from kzoo import losses, replicas
from kzoo.method import Batch
from kzoo.random import fold_in, integers
from kzoo.state import MemoryBank


def draw_with_noise(ids: tf.Tensor, keys: tf.Tensor, noise: int, examples: int) -> tf.Tensor:
    """Each example's own id, then `noise` ids drawn from all `examples` with replacement, itself perhaps among them.

    ids, keys: int64 `[b]`. Returns int32 `[b, 1 + noise]`.
    """
    drawn = integers(fold_in(keys, "noise"), (noise,), 0, examples)
    return tf.concat([tf.cast(ids, tf.int32)[:, None], drawn], axis=1)


def dot_products(features: tf.Tensor, entries: tf.Tensor) -> tf.Tensor:
    """Of each feature, `[b, d]`, with its own entries, `[b, k, d]`: `[b, k]`."""
    return tf.einsum("bd,bkd->bk", features, tf.cast(entries, features.dtype))


class NoiseContrast(keras.layers.Layer):
    """Tells an example's own entry from m entries drawn uniformly from all n (Wu et al. 2018, equations 4 to 8).

    With P = exp(score) / Z, the entry came from the data with probability h = P / (P + m / n). The loss is
    -log h(own) - sum over the noise of log(1 - h). All P = 1 / n: log(1 + m) + m log(1 + 1 / m).

    Z is a constant: n times the mean of exp(score) in the first batch of training, over all replicas. `constant` holds
    Z / n, 0 before it is known. The released code adds 1e-7 to the denominators, which for a million examples adds 0.13
    to the loss and nothing to its gradient; here nothing is added.
    """

    def __init__(self, noise: int, name: str = "noise_contrast"):
        super().__init__(name=name)
        self.noise = noise
        self.constant = self.add_weight(name="constant", shape=(), initializer="zeros", trainable=False)
        self.built = True

    def loss(self, scores: tf.Tensor) -> tf.Tensor:
        """The mean over this replica's examples; until a constant is kept, with that of these scores.

        scores: `[b, 1 + m]`, similarity over temperature, the own entry's first.
        """
        kept = replicas.local(self.constant).read_value()
        constant = tf.where(kept > 0, kept, tf.cast(replicas.mean(mean_exponential(scores)), kept.dtype))
        odds = scores - tf.math.log(tf.cast(constant, scores.dtype)) - math.log(self.noise)  # log(P / (m / n))
        return tf.reduce_mean(tf.nn.softplus(-odds[:, 0]) + tf.reduce_sum(tf.nn.softplus(odds[:, 1:]), axis=1))

    def keep(self, mean: tf.Tensor) -> None:
        """Keep the mean of exp(score) in a batch, over all replicas, for good. Not where one is kept, nor 0."""
        variable = replicas.local(self.constant)
        kept = variable.read_value()
        variable.assign(tf.where(kept > 0, kept, tf.cast(replicas.mean(mean), kept.dtype)))


def mean_exponential(scores: tf.Tensor) -> tf.Tensor:
    """The mean of exp(score) over this replica's batch, without gradient: Z / n of the batch."""
    return tf.stop_gradient(tf.reduce_mean(tf.exp(scores)))


def drawn_noise(batch: Batch, noise: int | None, examples: int) -> tf.Tensor | None:
    """`draw_with_noise` for the examples of a batch; none where they are to be compared with the whole bank."""
    return None if noise is None else draw_with_noise(batch["id"], batch["seed"], noise, examples)


def compare(
    features: tf.Tensor,
    bank: MemoryBank,
    own: tf.Tensor,
    drawn: tf.Tensor | None,
    noise_contrast: NoiseContrast | None,
    temperature: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """How well unit-norm features `[b, d]` tell their own entry of the bank from others.

    own: int64 `[b]`. drawn: from `drawn_noise`; none: the others are the whole bank, and a softmax tells.
    noise_contrast: tells from the drawn ones.

    Returns the loss, how often the own entry scores highest of those compared, and what `noise_contrast` may keep.
    """
    if drawn is None:
        labels = tf.cast(own, tf.int32)
        scores = tf.matmul(features, tf.cast(bank.all(), features.dtype), transpose_b=True) / temperature
        return losses.cross_entropy(scores, labels), losses.accuracy(scores, labels), tf.zeros([], scores.dtype)
    scores = dot_products(features, bank.read(drawn)) / temperature
    accuracy = losses.accuracy(scores, tf.zeros_like(own))  # the own entry comes first
    return noise_contrast.loss(scores), accuracy, mean_exponential(scores)
