"""What a generator and a discriminator that train against each other share (Goodfellow et al. 2014)."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from kzoo import replicas
from kzoo.losses import full_precision


def discriminator_loss(real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
    """-mean log D(x) - mean log(1 - D(G(z))), of logits. Where D answers 1/2: 2 log 2."""
    real, fake = full_precision(real), full_precision(fake)
    return tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(fake))


def generator_loss(fake: tf.Tensor) -> tf.Tensor:
    """-mean log D(G(z)), of logits: the loss that does not saturate (section 3). Where D answers 1/2: log 2."""
    return tf.reduce_mean(tf.nn.softplus(-full_precision(fake)))


def told_apart(real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
    """Share of real and generated images that the discriminator takes for what they are, in [0, 1]."""
    right = tf.concat([tf.reshape(real, [-1]) > 0, tf.reshape(fake, [-1]) <= 0], axis=0)
    return tf.reduce_mean(tf.cast(right, "float32"))


@contextmanager
def statistics_kept(*models: keras.Model) -> Iterator[None]:
    """Calls in this context use the statistics of their batch and leave the moving ones as they were.

    So the step of one network changes nothing in the other, and a discriminator that goes downstream keeps the moving
    statistics of real images alone.
    """
    moving = [
        replicas.local(variable)
        for model in models
        for variable in model.non_trainable_variables
        if tf.as_dtype(variable.dtype).is_floating
    ]
    before = [tf.identity(variable) for variable in moving]
    yield
    for variable, value in zip(moving, before, strict=True):
        variable.assign(value)
