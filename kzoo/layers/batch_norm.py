"""Batch normalisation by the fused kernel, over all replicas or within parts of a batch."""

from typing import Any

import keras
import tensorflow as tf

from kzoo import sums
from kzoo.layers import scope
from kzoo.system.private import every_layer


@keras.saving.register_keras_serializable(package="kzoo")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation (Ioffe and Szegedy 2015) by TensorFlow's fused kernel, synchronised over replicas.

    Weights, configuration and results are the stock layer's. What differs: the defaults are torch's (its momentum 0.1
    is 0.9 here), as papers on self-supervision assume; statistics are synchronised unless `synchronized=False` or
    inside `split_batch_statistics`; moving averages are equal on all replicas in either case. Replicas must hold
    equally many examples. Masked, renormalised or channels-first inputs take the stock path; float64, for which there
    is no fused kernel, the same arithmetic without it.

    Args: as `keras.layers.BatchNormalization`.
    Input shape: `[..., D]`, any rank of at least 2. Output shape: the same.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        synchronized: bool = True,
        **kwargs: Any,
    ):
        super().__init__(axis=axis, momentum=momentum, epsilon=epsilon, synchronized=synchronized, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        x = tf.convert_to_tensor(inputs)
        channels_last = self.axis in (-1, x.shape.rank - 1)
        if mask is not None or self.renorm or not channels_last or not x.dtype.is_floating:
            return super().call(inputs, training=training, mask=mask)
        if not (training and self.trainable):
            return self._fused(x, tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance))[0]

        context = tf.distribute.get_replica_context()  # None while building under a strategy
        replicas = context.num_replicas_in_sync if context else 1
        groups = scope.told("groups")
        if replicas > 1 and self.synchronized and groups is None:
            outputs, mean, variance = self._synchronised(x, context)
        else:
            parts = [self._fused(part) for part in tf.split(x, groups)] if groups else [self._fused(x)]
            outputs = tf.concat([part[0] for part in parts], axis=0) if groups else parts[0][0]
            mean, variance = (sums.total([part[i] for part in parts]) / len(parts) for i in (1, 2))
            if replicas > 1:
                local = tf.stop_gradient(tf.stack([mean, variance]))
                mean, variance = tf.unstack(context.all_reduce(tf.distribute.ReduceOp.MEAN, local))
        keep = self.momentum
        self.moving_mean.assign(self.moving_mean * keep + mean * (1.0 - keep))
        self.moving_variance.assign(self.moving_variance * keep + variance * (1.0 - keep))
        return outputs

    def _gamma_beta(self) -> tuple[tf.Tensor, tf.Tensor]:
        gamma = tf.convert_to_tensor(self.gamma) if self.scale else tf.ones_like(self.moving_mean)
        beta = tf.convert_to_tensor(self.beta) if self.center else tf.zeros_like(self.moving_mean)
        return gamma, beta

    def _fused(
        self, x: tf.Tensor, mean: tf.Tensor | None = None, variance: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Normalise with the given moments, or with those of `x`; return the output and the (biased) moments used."""
        gamma, beta = self._gamma_beta()
        images = x if x.shape.rank == 4 else tf.reshape(x, [-1, 1, 1, x.shape[-1]])
        training = mean is None
        if x.dtype == tf.float64:  # which the kernel lacks
            if training:
                mean, variance = tf.nn.moments(images, axes=[0, 1, 2])
            return tf.nn.batch_normalization(x, mean, variance, beta, gamma, self.epsilon), mean, variance
        empty = tf.zeros([0], tf.float32)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images,
            scale=gamma,
            offset=beta,
            mean=empty if training else mean,
            variance=empty if training else variance,
            epsilon=self.epsilon,
            is_training=training,
        )
        if x.shape.rank != 4:
            outputs = tf.reshape(outputs, tf.shape(x))
            outputs.set_shape(x.shape)
        if training:  # the kernel divides by n - 1, Keras by n
            count = tf.cast(tf.reduce_prod(tf.shape(images)[:3]), tf.float32)
            variance *= tf.maximum(count - 1.0, 1.0) / count
        return outputs, mean, variance

    def _synchronised(self, x: tf.Tensor, context: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        gamma, beta = self._gamma_beta()
        values = tf.cast(x, tf.float64 if x.dtype == tf.float64 else tf.float32)
        mean, variance = tf.nn.moments(values, axes=list(range(x.shape.rank - 1)))
        # One sum of zero-padded rows hands every replica the moments of all. Combining them so is exact; E[x²] - E[x]²
        # would cancel where the mean is far from zero.
        row = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync, dtype=mean.dtype)
        rows = row[:, None, None] * tf.stack([mean, variance])
        means, variances = tf.unstack(context.all_reduce(tf.distribute.ReduceOp.SUM, rows), axis=1)
        mean = tf.reduce_mean(means, axis=0)
        variance = tf.reduce_mean(variances + tf.square(means - mean), axis=0)
        outputs = tf.nn.batch_normalization(values, mean, variance, beta, gamma, self.epsilon)
        return tf.cast(outputs, x.dtype), mean, variance


def swap_batch_normalization(model: keras.Model, momentum: float | None = None) -> keras.Model:
    """Turn every stock BatchNormalization in a model into kzoo's, in place, and return the model.

    Reaches those inside nested models and composite layers, which `keras.models.clone_model` cannot. Weights and
    settings stay, so outputs do too; from then on the layers are fused, and synchronised over replicas. Call it before
    compiling. A Functional model remembers it in its `.keras` file; a composite layer rebuilds its stock layers there.

    Args:
        model: a built model.
        momentum: how much of the moving averages a step keeps; none: as each layer has it. Keras' own 0.99 lags
            behind in runs of a few hundred steps, which then evaluate badly.
    """
    for layer in every_layer(model):
        if type(layer) is keras.layers.BatchNormalization:
            layer.__class__ = BatchNormalization  # adds no state: same attributes, same weights, another `call`
            layer.synchronized = True
            layer.momentum = layer.momentum if momentum is None else momentum
    return model
