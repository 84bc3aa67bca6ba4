"""Vision transformers (Dosovitskiy et al. 2021, arXiv:2010.11929) with the fixed positions of MAE (arXiv:2111.06377).

Input: `[B, H, W, C]` in [0, 1]; the patch size must divide H and W, which may be left open: positions are those of the
grid that comes. Outputs: "tokens" `[B, T, D]`, one per patch, row by row, and "embedding" `[B, D]`, the class token, or
by the option `pool` the mean of the tokens, in a network without a class token; both after the last normalisation.
A method may show it only some of the patches, or hide some behind a vector of its own (`kzoo.patches`).
"""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from kzoo.errors import RecipeError
from kzoo.layers import LayerNormalization, TransformerBlock, image_input
from kzoo.patches import KeptPatches, MaskedPatches, Positions
from kzoo_backbones.options import VisionTransformerOptions

InputShape = tuple[int | None, int | None, int]


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


def _vit(name: str, input_shape: InputShape, options: VisionTransformerOptions, usual_width: int) -> keras.Model:
    patch, width = options.patch_size, options.width or usual_width
    heads = options.heads or max(1, width // 64)
    sides = input_shape[:2]
    known = [side for side in sides if side is not None]
    if any(side % patch for side in known):
        divisors = [n for n in range(2, min(known) + 1) if not any(side % n for side in known)]
        raise RecipeError(
            f"{name}: patches of {patch} do not tile images of {sides[0]}x{sides[1]}; "
            f"set backbone.options.patch_size to one of {divisors}"
        )
    inputs, x = image_input(input_shape, options)
    # drawn as for the Dense layer of a flattened patch that it is (MAE, MoCo v3): a convolution's fans make tokens that
    # the position codes drown, for good where a method leaves the projection as it was drawn
    limit = (6.0 / (patch * patch * input_shape[-1] + width)) ** 0.5
    drawn = keras.initializers.RandomUniform(-limit, limit)
    x = layers.Conv2D(width, patch, patch, kernel_initializer=drawn, name="patches")(x)
    x = Positions(name="positions")(MaskedPatches(name="masked_patches")(x))
    x = KeptPatches(patch, name="patch_tokens")(x)
    if options.pool == "class_token":
        x = ClassToken(options.class_token_std, name="class_token")(x)
    for index in range(1, options.depth + 1):
        x = TransformerBlock(heads, name=f"block_{index}")(x)
    x = LayerNormalization(name="norm")(x)
    if options.pool == "mean":
        outputs = {"embedding": layers.GlobalAveragePooling1D(name="mean")(x), "tokens": x}
    else:
        outputs = {"embedding": x[:, 0], "tokens": x[:, 1:]}
    return keras.Model(inputs, outputs, name=name)


def vit_tiny(input_shape: InputShape, options: VisionTransformerOptions) -> keras.Model:
    """ViT-Ti: 192 wide, 3 heads; by default on patches of 4, for small images."""
    return _vit("vit_tiny", input_shape, options, 192)


def vit_small(input_shape: InputShape, options: VisionTransformerOptions) -> keras.Model:
    """ViT-S: 384 wide, 6 heads."""
    return _vit("vit_small", input_shape, options, 384)


def vit_base(input_shape: InputShape, options: VisionTransformerOptions) -> keras.Model:
    """ViT-B: 768 wide, 12 heads."""
    return _vit("vit_base", input_shape, options, 768)
