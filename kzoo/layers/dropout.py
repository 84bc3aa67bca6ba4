"""Dropout that belongs to the example."""

from typing import Any

import keras
import tensorflow as tf

from kzoo.errors import RecipeError
from kzoo.layers import scope
from kzoo.random import fold_in, mask


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
        keys = scope.told("keys")
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
