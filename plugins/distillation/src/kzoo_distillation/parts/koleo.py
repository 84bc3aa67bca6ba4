"""KoLeo: what keeps vectors apart (Sablayrolles, Douze, Schmid, Jégou 2019, arXiv:1806.03198, equation 2)."""

import tensorflow as tf

from kzoo import replicas
from kzoo.losses import l2_normalize, own_columns

_LEAST = 1e-8  # added to a distance
_ITSELF = 4.0  # taken from a cosine


def koleo(x: tf.Tensor) -> tf.Tensor:
    """Minus the mean log distance of each row `[b, d]`, at unit norm, to the nearest other row of all replicas.

    Two opposite rows: -log 2; rows at right angles: -log(2) / 2; equal rows: 18.42.
    """
    x = l2_normalize(x)
    every = replicas.gather(x)
    cosines = tf.matmul(tf.stop_gradient(x), tf.stop_gradient(every), transpose_b=True)
    itself = tf.one_hot(own_columns(tf.shape(x)[0]), tf.shape(every)[0], on_value=_ITSELF, dtype=x.dtype)
    chosen = tf.one_hot(tf.argmax(cosines - itself, axis=1), tf.shape(every)[0], dtype=x.dtype)
    nearest = tf.matmul(chosen, every)  # not tf.gather, whose sparse gradient does not go back to other replicas
    squared = tf.reduce_sum(tf.square(x - nearest), axis=1)
    return -tf.reduce_mean(tf.math.log(tf.sqrt(tf.maximum(squared, 1e-24)) + _LEAST))
