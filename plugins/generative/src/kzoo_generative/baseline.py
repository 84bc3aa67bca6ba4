"""What a method that knows nothing but the mean would reach: the figures that stand beside a reconstruction loss."""

import tensorflow as tf

from kzoo import replicas


def channel_moments(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance of each channel, `[C]`, over all places of all images `[B, h, w, C]` of all replicas."""
    axes = list(range(images.shape.rank - 1))
    mean, square = tf.unstack(
        replicas.mean(tf.stack([tf.reduce_mean(images, axes), tf.reduce_mean(tf.square(images), axes)]))
    )
    return mean, square - tf.square(mean)
