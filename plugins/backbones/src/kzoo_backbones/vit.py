"""Vision transformers (Dosovitskiy et al. 2021, arXiv:2010.11929) with the fixed positions of MAE (arXiv:2111.06377).

Input: `[B, H, W, C]` in [0, 1]; the patch size must divide H and W, which may be left open: positions are those of the
grid that comes. Outputs: "tokens" `[B, T, D]`, one per patch, row by row, and "embedding" `[B, D]`, the class token;
both after the last normalisation.
A method that hides patches takes the layers by name: "patches" (`[B, H, W, C]` to `[B, h, w, D]`), "positions",
"patch_tokens" (to `[B, T, D]`), "class_token" (to `[B, 1 + T, D]`), "block_1" to "block_<depth>", "norm".
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from kzoo.errors import RecipeError
from kzoo.layers import LayerNormalization, TransformerBlock
from kzoo_backbones.inputs import normalised_input
from kzoo_backbones.options import VisionTransformerOptions

InputShape = tuple[int | None, int | None, int]


def sine_cosine_positions(height: int, width: int, dimension: int) -> np.ndarray:
    """Two-dimensional sine-cosine codes, float32 `[height, width, dimension]`; `dimension` must divide by 4.

    A quarter each for sin and cos of the row and of the column, over wavelengths from 2π towards 10000 · 2π.
    """
    frequencies = 10000.0 ** -(np.arange(dimension // 4) / (dimension // 4))
    places = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    angles = [place[..., None] * frequencies for place in places]
    return np.concatenate([part(angle) for angle in angles for part in (np.sin, np.cos)], axis=-1).astype("float32")


def _codes_of(height: tf.Tensor, width: tf.Tensor, dimension: int) -> tf.Tensor:
    """The same for sides that are known when the graph runs."""
    frequencies = tf.constant(10000.0 ** -(np.arange(dimension // 4) / (dimension // 4)), tf.float64)
    places = tf.meshgrid(tf.range(height), tf.range(width), indexing="ij")
    angles = [tf.cast(place, tf.float64)[..., None] * frequencies for place in places]
    return tf.cast(tf.concat([part(angle) for angle in angles for part in (tf.sin, tf.cos)], axis=-1), tf.float32)


@keras.saving.register_keras_serializable(package="kzoo_backbones")
class Positions(layers.Layer):
    """Adds the fixed code of each patch's place. `[B, h, w, D]` to the same shape, for any h and w; no weights."""

    def call(self, inputs: Any) -> Any:
        x = tf.convert_to_tensor(inputs)
        _, height, width, dimension = x.shape
        if height is None or width is None:
            codes = _codes_of(tf.shape(x)[1], tf.shape(x)[2], dimension)
        else:
            codes = tf.constant(sine_cosine_positions(height, width, dimension))
        return x + tf.cast(codes, x.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


@keras.saving.register_keras_serializable(package="kzoo_backbones")
class ClassToken(layers.Layer):
    """Puts one learned token before the others. `[B, T, D]` to `[B, 1 + T, D]`. deviation: that it is drawn with."""

    def __init__(self, deviation: float = 0.02, **kwargs: Any):
        super().__init__(**kwargs)
        self.deviation = deviation

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        start = keras.initializers.RandomNormal(stddev=self.deviation)
        self.token = self.add_weight(name="token", shape=(1, 1, input_shape[-1]), initializer=start)

    def call(self, inputs: Any) -> Any:
        token = tf.cast(tf.convert_to_tensor(self.token), inputs.dtype)
        return tf.concat([tf.tile(token, [tf.shape(inputs)[0], 1, 1]), inputs], axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, length, width = input_shape
        return batch, None if length is None else length + 1, width

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "deviation": self.deviation}


def _vit(
    name: str, input_shape: InputShape, options: VisionTransformerOptions, dimension: int, heads: int
) -> keras.Model:
    patch = options.patch_size
    sides = input_shape[:2]
    known = [side for side in sides if side is not None]
    if any(side % patch for side in known):
        divisors = [n for n in range(2, min(known) + 1) if not any(side % n for side in known)]
        raise RecipeError(
            f"{name}: patches of {patch} do not tile images of {sides[0]}x{sides[1]}; "
            f"set backbone.options.patch_size to one of {divisors}"
        )
    inputs, x = normalised_input(input_shape, options)
    # drawn as for the Dense layer of a flattened patch that it is (MAE, MoCo v3): a convolution's fans make tokens that
    # the position codes drown, for good where a method leaves the projection as it was drawn
    limit = (6.0 / (patch * patch * input_shape[-1] + dimension)) ** 0.5
    drawn = keras.initializers.RandomUniform(-limit, limit)
    x = layers.Conv2D(dimension, patch, patch, kernel_initializer=drawn, name="patches")(x)
    x = Positions(name="positions")(x)
    x = layers.Reshape((-1, dimension), name="patch_tokens")(x)
    x = ClassToken(options.class_token_std, name="class_token")(x)
    for index in range(1, options.depth + 1):
        x = TransformerBlock(options.heads or heads, name=f"block_{index}")(x)
    x = LayerNormalization(name="norm")(x)
    return keras.Model(inputs, {"embedding": x[:, 0], "tokens": x[:, 1:]}, name=name)


def vit_tiny(input_shape: InputShape, options: VisionTransformerOptions) -> keras.Model:
    """ViT-Ti: 192 wide, 3 heads; by default on patches of 4, for small images."""
    return _vit("vit_tiny", input_shape, options, 192, 3)


def vit_small(input_shape: InputShape, options: VisionTransformerOptions) -> keras.Model:
    """ViT-S: 384 wide, 6 heads."""
    return _vit("vit_small", input_shape, options, 384, 6)


def vit_base(input_shape: InputShape, options: VisionTransformerOptions) -> keras.Model:
    """ViT-B: 768 wide, 12 heads."""
    return _vit("vit_base", input_shape, options, 768, 12)
