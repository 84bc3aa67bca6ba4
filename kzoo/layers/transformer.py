"""Self-attention, and the block of a transformer."""

from typing import Any

import keras
import tensorflow as tf

from kzoo.errors import RecipeError
from kzoo.layers.closed_form import LayerNormalization, gelu
from kzoo.losses import full_precision

_HIDDEN = -1e9  # a logit that no softmax sees


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
