"""The layers of a transformer as BERT has it: normalised after each part, with dropout, padding never attended to."""

from typing import Any

import keras
import tensorflow as tf

from kzoo.errors import RecipeError
from kzoo.layers import Dropout, LayerNormalization, gelu
from kzoo.text import PAD, SEP

EPSILON = 1e-12  # of layer normalisation, BERT's
HEAD = 64  # width of an attention head, in all of BERT's sizes
_HIDDEN = -1e9  # a logit that no softmax sees


def small_start() -> keras.initializers.Initializer:
    """BERT's initial weights: normal, of standard deviation 0.02, none beyond two of them."""
    return keras.initializers.TruncatedNormal(stddev=0.02)


def dense(width: int, name: str, policy: Any = None, **more: Any) -> keras.layers.Dense:
    """A Dense layer with BERT's initial weights."""
    return keras.layers.Dense(width, kernel_initializer=small_start(), dtype=policy, name=name, **more)


@keras.saving.register_keras_serializable(package="kzoo_text")
class Places(keras.layers.Layer):
    """Adds to embedded tokens a learned vector for each position, and one for the segment (BERT, section 3.2).

    Segment 1 begins after the first [SEP]; padding has no segment. Takes embedded tokens `[B, T, D]` and the tokens,
    int32 `[B, T]`; returns `[B, T, D]`.
    """

    def build(self, input_shape: Any) -> None:
        _, length, width = input_shape
        self.positions = self.add_weight(name="positions", shape=(length, width), initializer=small_start())
        self.segments = self.add_weight(name="segments", shape=(2, width), initializer=small_start())

    def call(self, inputs: Any, tokens: Any) -> Any:
        positions, segments = (tf.cast(tf.convert_to_tensor(v), inputs.dtype) for v in (self.positions, self.segments))
        ended = tf.cumsum(tf.cast(tokens == SEP, tf.int32), axis=1, exclusive=True)
        second = (ended > 0) & (tokens != PAD)
        return inputs + positions + tf.where(second[..., None], segments[1], segments[0])

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@keras.saving.register_keras_serializable(package="kzoo_text")
class Attention(keras.layers.Layer):
    """Multi-head attention (Vaswani et al. 2017, section 3.2) of some tokens to themselves or to others.

    Args:
        heads: number of heads; the width D must divide by it. dropout: share of the attention that is left out.
        cross: attend to others: one matrix makes their keys and values; else one makes queries, keys and values.

    Takes `[B, T, D]`, bool `visible` that broadcasts to `[B, T, S]`, and in cross attention the others `[B, S, D]`.
    Returns `[B, T, D]`. Raises RecipeError if D does not divide by `heads`.
    """

    def __init__(self, heads: int, dropout: float, *, name: str, cross: bool = False, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.heads, self.dropout, self.cross = heads, dropout, cross
        self.drop = Dropout(dropout, name=f"{name}_dropout", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        if width % self.heads:
            raise RecipeError(f"{self.name}: a width of {width} does not divide by heads={self.heads}")
        policy = self.dtype_policy
        self.joint = dense((2 if self.cross else 3) * width, "key_value" if self.cross else "query_key_value", policy)
        self.joint.build(input_shape)
        if self.cross:
            self.query = dense(width, "query", policy)
            self.query.build(input_shape)
        self.projection = dense(width, "projection", policy)
        self.projection.build(input_shape)

    def call(self, inputs: Any, visible: Any, others: Any = None, training: bool = False) -> Any:
        if self.cross:
            [query], (key, value) = self._split(self.query(inputs), 1), self._split(self.joint(others), 2)
        else:
            query, key, value = self._split(self.joint(inputs), 3)
        query *= query.shape[-1] ** -0.5
        logits = tf.cast(
            tf.matmul(query, key, transpose_b=True), tf.float64 if query.dtype == tf.float64 else "float32"
        )
        weights = tf.nn.softmax(tf.where(visible[:, None], logits, tf.constant(_HIDDEN, logits.dtype)))
        weights = self.drop(tf.cast(weights, value.dtype), training=training)
        mixed = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return self.projection(tf.reshape(mixed, tf.shape(inputs)))

    def _split(self, x: tf.Tensor, parts: int) -> list[tf.Tensor]:
        """So many tensors `[B, heads, T, d]` of one `[B, T, parts * D]`."""
        width = x.shape[-1] // parts // self.heads
        cut = tf.reshape(x, [-1, tf.shape(x)[1], parts, self.heads, width])
        return tf.unstack(tf.transpose(cut, [2, 0, 3, 1, 4]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "dropout": self.dropout, "cross": self.cross}


@keras.saving.register_keras_serializable(package="kzoo_text")
class Block(keras.layers.Layer):
    """Post-norm transformer block: x = norm(x + attention(x)); x = norm(x + mlp(x)), the hidden layer 4 D wide.

    Args:
        heads, dropout: as for `Attention`; of what both parts add, the same share is left out.
        cross: between the two, attend to others, as a decoder does.

    Takes `[B, T, D]`, bool `visible` `[B, T or 1, T]`, and with `cross` the others `[B, S, D]` and `others_visible`
    `[B, 1, S]`. Returns `[B, T, D]`.
    """

    def __init__(self, heads: int, dropout: float, *, name: str, cross: bool = False, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.heads, self.dropout, self.cross = heads, dropout, cross
        policy = self.dtype_policy
        self.attention = Attention(heads, dropout, name=f"{name}_attention", dtype=policy)
        self.attention_norm = LayerNormalization(epsilon=EPSILON, dtype=policy, name="attention_norm")
        self.attention_drop = Dropout(dropout, name=f"{name}_attention_output_dropout", dtype=policy)
        if cross:
            self.reading = Attention(heads, dropout, cross=True, name=f"{name}_reading", dtype=policy)
            self.reading_norm = LayerNormalization(epsilon=EPSILON, dtype=policy, name="reading_norm")
            self.reading_drop = Dropout(dropout, name=f"{name}_reading_output_dropout", dtype=policy)
        self.mlp_norm = LayerNormalization(epsilon=EPSILON, dtype=policy, name="mlp_norm")
        self.mlp_drop = Dropout(dropout, name=f"{name}_mlp_dropout", dtype=policy)

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        self.expand = dense(4 * width, "expand", self.dtype_policy, activation=gelu)
        self.contract = dense(width, "contract", self.dtype_policy)
        layers = [self.attention, self.attention_norm, self.mlp_norm, self.expand]
        for layer in layers + ([self.reading, self.reading_norm] if self.cross else []):
            layer.build(input_shape)
        self.contract.build((*input_shape[:-1], 4 * width))

    def call(
        self, inputs: Any, visible: Any, others: Any = None, others_visible: Any = None, training: bool = False
    ) -> Any:
        added = self.attention(inputs, visible, training=training)
        x = self.attention_norm(inputs + self.attention_drop(added, training=training))
        if self.cross:
            added = self.reading(x, others_visible, others, training=training)
            x = self.reading_norm(x + self.reading_drop(added, training=training))
        added = self.contract(self.expand(x))
        return self.mlp_norm(x + self.mlp_drop(added, training=training))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "dropout": self.dropout, "cross": self.cross}


@keras.saving.register_keras_serializable(package="kzoo_text")
class Visible(keras.layers.Layer):
    """Which tokens may be attended to: not padding. int `[B, T]` to bool `[B, 1, T]`."""

    def call(self, tokens: Any) -> Any:
        return tf.convert_to_tensor(tokens)[:, None] != PAD

    def compute_output_spec(self, tokens: Any) -> Any:
        return keras.KerasTensor((tokens.shape[0], 1, tokens.shape[1]), dtype="bool")


@keras.saving.register_keras_serializable(package="kzoo_text")
class MeanOfVisible(keras.layers.Layer):
    """The mean over the visible tokens: `[B, T, D]` and bool `[B, 1, T]` to `[B, D]`; 0 where none is visible."""

    def call(self, inputs: Any, visible: Any) -> Any:
        weights = tf.cast(visible, tf.float64 if inputs.dtype == tf.float64 else tf.float32)
        weights /= tf.maximum(tf.reduce_sum(weights, axis=-1, keepdims=True), 1)
        return tf.matmul(tf.cast(weights, inputs.dtype), inputs)[:, 0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0], input_shape[-1]
