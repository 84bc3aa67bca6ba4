"""Vision transformers (Dosovitskiy et al. 2021, arXiv:2010.11929) with the fixed positions of MAE (arXiv:2111.06377).

Input: `[B, H, W, C]` in [0, 1]; the patch size must divide H and W. Outputs: "tokens" `[B, T, D]`, one per patch, row
by row, and "embedding" `[B, D]`, the class token; both after the last normalisation.
A method that hides patches takes the layers by name: "patches" (`[B, H, W, C]` to `[B, h, w, D]`), "patch_tokens" (to
`[B, T, D]`), "positions", "class_token" (to `[B, 1 + T, D]`), "block_1" to "block_<depth>", "norm".
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


def sine_cosine_positions(height: int, width: int, dimension: int) -> np.ndarray:
    """Two-dimensional sine-cosine codes, float32 `[height * width, dimension]`; `dimension` must divide by 4.

    A quarter each for sin and cos of the row and of the column, over wavelengths from 2π towards 10000 · 2π.
    """
    frequencies = 10000.0 ** -(np.arange(dimension // 4) / (dimension // 4))
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in (rows, columns)]
    return np.concatenate([part(angle) for angle in angles for part in (np.sin, np.cos)], axis=1).astype("float32")


@keras.saving.register_keras_serializable(package="kzoo_backbones")
class Positions(layers.Layer):
    """Adds the fixed code of each patch's place. `[B, height * width, D]` to the same shape; no weights."""

    def __init__(self, height: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.height = height
        self.width = width

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.codes = sine_cosine_positions(self.height, self.width, input_shape[-1])

    def call(self, inputs: Any) -> Any:
        return inputs + tf.cast(self.codes, inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height": self.height, "width": self.width}


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
    name: str, input_shape: tuple[int, int, int], options: VisionTransformerOptions, dimension: int, heads: int
) -> keras.Model:
    patch = options.patch_size
    sides = input_shape[:2]
    if None in sides:
        raise RecipeError(f"{name}: needs images of one size; set the size of the views instead of leaving a side open")
    if any(side % patch for side in sides):
        divisors = [n for n in range(2, min(sides) + 1) if not any(side % n for side in sides)]
        raise RecipeError(
            f"{name}: patches of {patch} do not tile images of {sides[0]}x{sides[1]}; "
            f"set backbone.options.patch_size to one of {divisors}"
        )
    height, width = (side // patch for side in sides)

    inputs, x = normalised_input(input_shape, options)
    # drawn as for the Dense layer of a flattened patch that it is (MAE, MoCo v3): a convolution's fans make tokens that
    # the position codes drown, for good where a method leaves the projection as it was drawn
    limit = (6.0 / (patch * patch * input_shape[-1] + dimension)) ** 0.5
    drawn = keras.initializers.RandomUniform(-limit, limit)
    x = layers.Conv2D(dimension, patch, patch, kernel_initializer=drawn, name="patches")(x)
    x = layers.Reshape((height * width, dimension), name="patch_tokens")(x)
    x = Positions(height, width, name="positions")(x)
    x = ClassToken(options.class_token_std, name="class_token")(x)
    for index in range(1, options.depth + 1):
        x = TransformerBlock(options.heads or heads, name=f"block_{index}")(x)
    x = LayerNormalization(name="norm")(x)
    return keras.Model(inputs, {"embedding": x[:, 0], "tokens": x[:, 1:]}, name=name)


def vit_tiny(input_shape: tuple[int, int, int], options: VisionTransformerOptions) -> keras.Model:
    """ViT-Ti: 192 wide, 3 heads; by default on patches of 4, for small images."""
    return _vit("vit_tiny", input_shape, options, 192, 3)


def vit_small(input_shape: tuple[int, int, int], options: VisionTransformerOptions) -> keras.Model:
    """ViT-S: 384 wide, 6 heads."""
    return _vit("vit_small", input_shape, options, 384, 6)


def vit_base(input_shape: tuple[int, int, int], options: VisionTransformerOptions) -> keras.Model:
    """ViT-B: 768 wide, 12 heads."""
    return _vit("vit_base", input_shape, options, 768, 12)
