"""The narrow transformer that answers for tubelets which the encoder did not see."""

from typing import Any

import keras
import tensorflow as tf

from kzoo.errors import OptionsError
from kzoo.layers import LayerNormalization, TransformerBlock
from kzoo_temporal.backbones.video_vit import space_time_positions


class TubeletPredictor(keras.layers.Layer):
    """Answers for asked places from tokens of known ones.

    Tokens -> Dense `[B, k, width]` + codes of their places; after them, for each place asked for, a learned vector +
    its code -> transformer blocks -> normalisation -> of these last ones, Dense `[B, m, units]`.

    Args:
        inputs: width of the encoder's tokens. width: of its own, even, and a multiple of `heads`.
        depth: number of blocks. heads: attention heads. units: numbers of an answer. grid: slots, rows, columns.
        kinds: how many vectors there are to stand for an asked place. start: deviation that they are drawn with.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        depth: int,
        heads: int,
        units: int,
        grid: tuple[int, int, int],
        name: str,
        kinds: int = 1,
        start: float = 0.02,
    ):
        super().__init__(name=name)
        if width % 2 or width % heads:
            raise OptionsError([f"{name}: a width of {width} must be even and divide by its {heads} heads"])
        self.codes = space_time_positions(*grid, width).reshape(-1, width)
        self.entrance = keras.layers.Dense(width, name="entrance")
        self.blocks = [TransformerBlock(heads, name=f"block_{index}") for index in range(1, depth + 1)]
        self.norm = LayerNormalization(name="norm")
        self.exit = keras.layers.Dense(units, name="exit")
        drawn = keras.initializers.RandomNormal(stddev=start) if start else "zeros"
        self.mask_tokens = self.add_weight(name="mask_tokens", shape=(kinds, width), initializer=drawn)
        self.entrance.build((None, None, inputs))
        for layer in (*self.blocks, self.norm, self.exit):
            layer.build((None, None, width))
        self.built = True

    def call(self, tokens: Any, places: Any, asked: Any, kind: int = 0, visible: Any = None) -> Any:
        """The answers `[B, m, units]`.

        tokens: `[B, k, D]`. places: their numbers, int `[B, k]`. asked: int `[B, m]`. kind: of the vector.
        visible: bool `[B, m]`, which asked places others may attend to.
        """
        codes = tf.constant(self.codes, self.compute_dtype)
        known = self.entrance(tokens) + tf.gather(codes, places)
        if visible is not None:
            visible = tf.concat([tf.ones(tf.shape(known)[:2], tf.bool), visible], axis=1)
        stand_in = tf.cast(tf.convert_to_tensor(self.mask_tokens)[kind], codes.dtype)
        x = tf.concat([known, stand_in + tf.gather(codes, asked)], axis=1)
        for block in self.blocks:
            x = block(x, visible)
        return self.exit(self.norm(x[:, -asked.shape[1] :]))
