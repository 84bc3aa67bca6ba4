"""Layers that several plugins share, and the one builder of projection and prediction heads.

Each exists because the stock layer is slower, or wrong for self-supervision. Where there is a stock layer, weights and
configuration carry its names, so that weights move both ways.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from kzoo import sums
from kzoo.errors import RecipeError
from kzoo.losses import full_precision, l2_normalize
from kzoo.random import fold_in, mask
from kzoo.system.private import every_layer

_HIDDEN = -1e9  # a logit that no softmax sees
_scope = threading.local()


@contextmanager
def _within(name: str, value: Any) -> Iterator[None]:
    """What layers that are called in this context, by this thread, find in `_scope` under a name."""
    before = getattr(_scope, name, None)
    setattr(_scope, name, value)
    try:
        yield
    finally:
        setattr(_scope, name, before)


@contextmanager
def split_batch_statistics(groups: int) -> Iterator[None]:
    """Within this context batch normalisation cuts each replica's batch in `groups` equal parts, one after the other.

    Each part is normalised with its own statistics: split BN, and with shuffled keys MoCo's shuffling BN. The moving
    averages take the mean over all parts of all replicas, so that all copies stay equal. Enter it where the model is
    called, inside `train_step`: it holds for the calling thread and is read while tracing.
    """
    with _within("groups", groups):
        yield


@contextmanager
def dropout_keys(keys: tf.Tensor) -> Iterator[None]:
    """Within this context `Dropout` draws what to leave out from these keys, int64 `[B]`, one for each example.

    `Method` enters it with the batch's "seed" for all that `minimise` computes. It holds for the calling thread and is
    read while tracing.
    """
    with _within("keys", keys):
        yield


@keras.saving.register_keras_serializable(package="kzoo")
class Dropout(keras.layers.Layer):
    """Dropout (Srivastava et al. 2014) that belongs to the example: in training each element is 0 with probability
    `rate`, else divided by 1 - rate.

    Keras' layer draws the same on all replicas, and for an example what its place in the batch says. This one draws
    from the keys of `dropout_keys` and its name, so an example loses the same whatever the batch size and the number
    of replicas. Where the input has m rows for each key, those of example i before those of i + 1, each row draws for
    itself: the same example twice is two views (SimCSE). It has no state.

    Args:
        rate: share that is left out, in [0, 1).
        name: says which numbers are drawn: give each one in a model its own.
    Input shape: `[m * B, ...]`. Output shape: the same.
    Raises: TypeError in training where there are no keys.
    """

    def __init__(self, rate: float, *, name: str, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        if not 0.0 <= rate < 1.0:
            raise RecipeError(f"{name}: rate: expected 0 <= rate < 1. Received: {rate}")
        self.rate = rate
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or not self.rate:
            return inputs
        keys = getattr(_scope, "keys", None)
        if keys is None:
            raise TypeError(
                f"{self.name}: no keys to draw from; train with minimise, or enter kzoo.layers.dropout_keys"
            )
        x = tf.convert_to_tensor(inputs)
        copies = tf.shape(x)[0] // tf.shape(keys)[0]
        rows = fold_in(tf.repeat(fold_in(keys, self.name), copies), tf.range(tf.shape(x)[0]) % copies)
        sizes = [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape)][1:]
        kept = mask(rows, sizes, 1.0 - self.rate)
        return tf.ensure_shape(tf.where(kept, x / (1.0 - self.rate), tf.zeros([], x.dtype)), x.shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


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
        groups = getattr(_scope, "groups", None)
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


@keras.saving.register_keras_serializable(package="kzoo")
def gelu(x: tf.Tensor) -> tf.Tensor:
    """Exact Gaussian error linear unit x Φ(x) (Hendrycks and Gimpel 2016), its gradient Φ(x) + x φ(x) in closed form.

    TensorFlow's own differentiates term by term and costs half as much again in training. Any shape, any float type.
    """
    return _gelu(x)


@tf.custom_gradient
def _gelu(x: tf.Tensor) -> tf.Tensor:
    cdf = 0.5 * (1.0 + tf.math.erf(x * float(np.sqrt(0.5))))

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        density = tf.exp(-0.5 * tf.square(x)) * float(1.0 / np.sqrt(2.0 * np.pi))
        return upstream * (cdf + x * density)

    return x * cdf, gradient


@tf.custom_gradient
def _normalise_last_axis(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    mean = tf.reduce_mean(x, axis=-1, keepdims=True)
    centred = x - mean
    scale = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True) + epsilon)
    normed = centred * scale

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
        by_gamma = upstream * gamma
        inner = tf.reduce_mean(by_gamma * normed, axis=-1, keepdims=True)
        to_x = scale * (by_gamma - tf.reduce_mean(by_gamma, axis=-1, keepdims=True) - normed * inner)
        rows = list(range(x.shape.rank - 1))
        return to_x, tf.reduce_sum(upstream * normed, rows), tf.reduce_sum(upstream, rows), None

    return normed * gamma + beta, gradient


@keras.saving.register_keras_serializable(package="kzoo")
class LayerNormalization(keras.layers.LayerNormalization):
    """Layer normalisation (Ba et al. 2016), its gradient in closed form; axes other than the last take the stock path.

    The default epsilon is 1e-6, that of published vision transformers. Statistics are float32 under mixed precision.
    Input shape: `[..., D]`. Output shape: the same.
    """

    def __init__(self, axis: int = -1, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(axis=axis, epsilon=epsilon, **kwargs)

    def call(self, inputs: Any) -> Any:
        x = tf.convert_to_tensor(inputs)
        if self.axis not in ([-1], [x.shape.rank - 1]) or x.dtype == tf.float64 or self.rms_scaling:
            return super().call(inputs)
        gamma = tf.convert_to_tensor(self.gamma) if self.scale else tf.ones([x.shape[-1]])
        beta = tf.convert_to_tensor(self.beta) if self.center else tf.zeros([x.shape[-1]])
        outputs = _normalise_last_axis(tf.cast(x, tf.float32), gamma, beta, self.epsilon)
        return tf.cast(outputs, self.compute_dtype)


@keras.saving.register_keras_serializable(package="kzoo")
class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention, softmax(Q Kᵀ / √d) V (Vaswani et al. 2017, section 3.2), with one matrix for Q, K, V.

    Args:
        heads: number of heads; the width D of the input must divide by it.
    Input shape: `[B, T, D]`, and bool `visible` `[B, T]`, which tokens may be attended to; none: all.
    Output shape: `[B, T, D]`.
    Raises: RecipeError if D does not divide by `heads`.
    """

    def __init__(self, heads: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, input_shape: tuple[Any, ...]) -> None:
        width = input_shape[-1]
        if width % self.heads:
            raise RecipeError(
                f"{self.name}: a width of {width} does not divide by heads={self.heads}; choose a divisor of {width}"
            )
        self.query_key_value = keras.layers.Dense(3 * width, dtype=self.dtype_policy, name="query_key_value")
        self.projection = keras.layers.Dense(width, dtype=self.dtype_policy, name="projection")
        self.query_key_value.build(input_shape)
        self.projection.build(input_shape)

    def call(self, inputs: Any, visible: Any = None) -> Any:
        length, width = tf.shape(inputs)[1], inputs.shape[-1]
        joint = tf.reshape(self.query_key_value(inputs), [-1, length, 3, self.heads, width // self.heads])
        query, key, value = tf.unstack(tf.transpose(joint, [2, 0, 3, 1, 4]))  # each [B, heads, T, d]
        query *= (width // self.heads) ** -0.5
        logits = full_precision(tf.matmul(query, key, transpose_b=True))
        if visible is not None:
            logits = tf.where(visible[:, None, None], logits, tf.constant(_HIDDEN, logits.dtype))
        attention = tf.cast(tf.nn.softmax(logits), value.dtype)
        mixed = tf.transpose(tf.matmul(attention, value), [0, 2, 1, 3])
        return self.projection(tf.reshape(mixed, [-1, length, width]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable(package="kzoo")
class TransformerBlock(keras.layers.Layer):
    """Pre-norm transformer block: x += attention(norm(x)); x += mlp(norm(x)) (Dosovitskiy et al. 2021, equations 2, 3).

    Args:
        heads: number of attention heads; the width D of the input must divide by it.
        mlp_ratio: width of the hidden layer of the MLP, in multiples of D.
    Input shape: `[B, T, D]`, and bool `visible` `[B, T]`, which tokens may be attended to; none: all.
    Output shape: `[B, T, D]`.
    """

    def __init__(self, heads: int, mlp_ratio: float = 4.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads
        self.mlp_ratio = mlp_ratio
        policy = self.dtype_policy
        self.attention_norm = LayerNormalization(dtype=policy, name="attention_norm")
        self.attention = SelfAttention(heads, dtype=policy, name="attention")
        self.mlp_norm = LayerNormalization(dtype=policy, name="mlp_norm")

    def build(self, input_shape: tuple[Any, ...]) -> None:
        width = input_shape[-1]
        hidden = round(width * self.mlp_ratio)
        self.expand = keras.layers.Dense(hidden, activation=gelu, dtype=self.dtype_policy, name="expand")
        self.contract = keras.layers.Dense(width, dtype=self.dtype_policy, name="contract")
        for layer in (self.attention_norm, self.attention, self.mlp_norm, self.expand):
            layer.build(input_shape)
        self.contract.build((*input_shape[:-1], hidden))

    def call(self, inputs: Any, visible: Any = None) -> Any:
        x = inputs + self.attention(self.attention_norm(inputs), visible)
        return x + self.contract(self.expand(self.mlp_norm(x)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "mlp_ratio": self.mlp_ratio}


@keras.saving.register_keras_serializable(package="kzoo")
class UnitDense(keras.layers.Layer):
    """Cosines between the input and `units` prototypes: `L2(x) W`, the columns of W of unit norm, no bias.

    The last layer of DINO, iBOT and SwAV (Caron et al. 2020, 2021): a weight-normalised Dense layer whose gain is 1,
    or, with `gain`, begins at 1 and is learnt for each unit.
    Input shape: `[..., D]`. Output shape: `[..., units]`, in [-1, 1] times the gain, in full precision.
    """

    def __init__(self, units: int, gain: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.units, self.has_gain = units, gain

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units), initializer=start)
        self.gain = self.add_weight(name="gain", shape=(self.units,), initializer="ones") if self.has_gain else None

    def call(self, inputs: Any) -> Any:
        rows = l2_normalize(tf.convert_to_tensor(inputs))
        kernel = tf.cast(full_precision(tf.convert_to_tensor(self.kernel)), rows.dtype)
        cosines = tf.matmul(rows, tf.math.l2_normalize(kernel, axis=0, epsilon=1e-12))
        return cosines if self.gain is None else cosines * tf.cast(tf.convert_to_tensor(self.gain), cosines.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "gain": self.has_gain}


def mlp_head(
    widths: Sequence[int],
    *,
    activation: Literal["relu", "gelu"] = "relu",
    hidden_norm: bool = False,
    final_norm: bool | Literal["no_beta", "no_affine"] = False,
    final_bias: bool = True,
    name: str = "head",
) -> keras.Sequential:
    """Build a projector or predictor: Dense layers with an activation between them, each optionally batch-normalised.

    A Dense layer that is followed by normalisation has no bias: the normalisation would take it away.

    Args:
        widths: the width of each Dense layer; the last is the width of the output.
        activation: between the layers.
        hidden_norm: normalise before each activation.
        final_norm: normalise the output: True in full, "no_beta" without shift, "no_affine" without shift and scale.
        final_bias: give the last Dense layer a bias, where no normalisation follows it.

    Input shape: `[B, D]`. Output shape: `[B, widths[-1]]`.
    Raises: RecipeError without a width.

    The heads of the literature:
        SimCLR:            mlp_head([2048, 128], hidden_norm=True, final_norm="no_beta")
        MoCo v1:           mlp_head([128])
        MoCo v2:           mlp_head([2048, 128])
        BYOL:              mlp_head([4096, 256], hidden_norm=True)                    projector and predictor
        SimSiam projector: mlp_head([2048, 2048, 2048], hidden_norm=True, final_norm="no_affine")
        SimSiam predictor: mlp_head([512, 2048], hidden_norm=True)
        Barlow Twins:      mlp_head([8192, 8192, 8192], hidden_norm=True, final_bias=False)
        DINO:              mlp_head([2048, 2048, 256], activation="gelu"), then UnitDense(65536)
    """
    if not widths:
        raise RecipeError(f"{name}: a head without layers; give mlp_head at least one width")
    layers: list[keras.layers.Layer] = []
    for index, width in enumerate(widths[:-1]):
        layers.append(keras.layers.Dense(width, use_bias=not hidden_norm, name=f"dense_{index}"))
        if hidden_norm:
            layers.append(BatchNormalization(name=f"norm_{index}"))
        title = f"{activation}_{index}"
        layers.append(
            keras.layers.ReLU(name=title) if activation == "relu" else keras.layers.Activation(gelu, name=title)
        )
    last = len(widths) - 1
    layers.append(keras.layers.Dense(widths[-1], use_bias=final_bias and not final_norm, name=f"dense_{last}"))
    if final_norm:
        norm = BatchNormalization(center=final_norm is True, scale=final_norm != "no_affine", name=f"norm_{last}")
        layers.append(norm)
    return keras.Sequential(layers, name=name)
