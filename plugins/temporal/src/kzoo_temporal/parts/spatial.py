"""Where in a picture each channel is (Levine, Finn, Darrell, Abbeel 2016, "deep spatial autoencoders")."""

from typing import Any

import keras
import tensorflow as tf

from kzoo.losses import full_precision


@keras.saving.register_keras_serializable(package="kzoo_temporal")
class SpatialSoftmax(keras.layers.Layer):
    """The expected place of each channel under a softmax over the positions.

    Args:
        temperature: of the softmax.
    Input shape: `[B, h, w, C]`. Output shape: `[B, 2C]`, x of all channels and then y, from -1 at the first column or
    row to 1 at the last.
    """

    def __init__(self, temperature: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.temperature = temperature
        self.built = True

    def call(self, inputs: Any) -> Any:
        x = full_precision(tf.convert_to_tensor(inputs))
        height, width, channels = x.shape[1:]
        shares = tf.nn.softmax(tf.reshape(x, [-1, height * width, channels]) / self.temperature, axis=1)
        rows, columns = (_places(size, x.dtype) for size in (height, width))
        across = tf.reshape(tf.repeat(columns[None], height, axis=0), [-1, 1])
        down = tf.reshape(tf.repeat(rows[:, None], width, axis=1), [-1, 1])
        places = [tf.reduce_sum(shares * along, axis=1) for along in (across, down)]
        return tf.cast(tf.concat(places, axis=1), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape[0], 2 * input_shape[-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


def _places(size: int, dtype: Any) -> tf.Tensor:
    return tf.linspace(tf.constant(-1.0, dtype), 1.0, size) if size > 1 else tf.zeros([1], dtype)
