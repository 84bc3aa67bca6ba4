"""The narrow transformer that answers for patches which the encoder did not see: MAE's decoder, I-JEPA's predictor."""

from typing import Any

import keras
import tensorflow as tf

from kzoo.errors import OptionsError
from kzoo.layers import LayerNormalization, TransformerBlock
from kzoo.patches import sine_cosine_positions


class Predictor(keras.layers.Layer):
    """Answers for asked places from tokens of known ones.

    Tokens -> Dense `[B, k, width]` + codes of their places; after them, for each place asked for, one learned vector +
    its code -> transformer blocks -> normalisation -> of these last ones, Dense `[B, m, units]`. A token of the whole
    image, which has no place, may stand before them.

    Args:
        inputs: width D of the encoder's tokens. width: of its own, divisible by 4 and by `heads`.
        depth: number of blocks. heads: attention heads. units: numbers of an answer.
    """

    def __init__(self, inputs: int, width: int, depth: int, heads: int, units: int, name: str):
        super().__init__(name=name)
        if width % 4 or width % heads:
            raise OptionsError([f"{name}: a width of {width} must divide by 4 and by its {heads} heads"])
        self.width = width
        self.entrance = keras.layers.Dense(width, name="entrance")
        self.blocks = [TransformerBlock(heads, name=f"block_{index}") for index in range(1, depth + 1)]
        self.norm = LayerNormalization(name="norm")
        self.exit = keras.layers.Dense(units, name="exit")
        small = keras.initializers.RandomNormal(stddev=0.02)
        self.mask_token = self.add_weight(name="mask_token", shape=(1, 1, width), initializer=small)
        self.entrance.build((None, None, inputs))
        for layer in (*self.blocks, self.norm, self.exit):
            layer.build((None, None, width))
        self.built = True

    def call(
        self, tokens: Any, places: Any, asked: Any, *, grid: tuple[int, int], whole: Any = None, visible: Any = None
    ) -> Any:
        """The answers `[B, m, units]`.

        tokens: `[B, k, D]`. places: their numbers in the grid, int `[B, k]`. asked: int `[B, m]`. grid: rows, columns.
        whole: a token `[B, D]` without a place. visible: bool `[B, m]`, which asked places others may attend to.
        """
        codes = tf.constant(sine_cosine_positions(*grid, self.width).reshape(-1, self.width), self.compute_dtype)
        known = self.entrance(tokens) + tf.gather(codes, places)
        if whole is not None:
            known = tf.concat([self.entrance(whole[:, None]), known], axis=1)
        if visible is not None:
            visible = tf.concat([tf.ones(tf.shape(known)[:2], tf.bool), visible], axis=1)
        unknown = tf.cast(tf.convert_to_tensor(self.mask_token), codes.dtype) + tf.gather(codes, asked)
        x = tf.concat([known, unknown], axis=1)
        for block in self.blocks:
            x = block(x, visible)
        return self.exit(self.norm(x[:, -asked.shape[1] :]))
