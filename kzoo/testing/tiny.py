"""Backbones with every kind of output, small enough to be traced in a second."""

from typing import Any

import keras

from kzoo.layers import BatchNormalization, LayerNormalization, TransformerBlock
from kzoo.patches import KeptPatches, MaskedPatches, Positions

_WIDTHS = (8, 16, 32)
_PATCH = 8


def tiny_backbone(input_shape: tuple[int | None, ...]) -> keras.Model:
    """Three convolutions with batch normalisation, which replicas can get wrong; images of any size from 8 pixels.

    Outputs: "map_1", "map_2", "map" at 1/2, 1/4, 1/8 of the image's resolution, 8, 16 and 32 channels; "tokens", the
    positions of "map" `[B, T, 32]`; "embedding", their mean `[B, 32]`.
    """
    x: Any = keras.Input(input_shape, name="image")
    inputs, maps = x, []
    for level, width in enumerate(_WIDTHS, start=1):
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name=f"conv_{level}")(x)
        x = keras.layers.ReLU(name=f"relu_{level}")(BatchNormalization(name=f"norm_{level}")(x))
        maps.append(x)
    outputs = {
        "embedding": keras.layers.GlobalAveragePooling2D(name="embedding")(x),
        "map": x,
        "map_1": maps[0],
        "map_2": maps[1],
        "tokens": keras.layers.Reshape((-1, _WIDTHS[-1]), name="tokens")(x),
    }
    return keras.Model(inputs, outputs, name="tiny")


def tiny_vision_transformer(input_shape: tuple[int | None, ...]) -> keras.Model:
    """Two blocks, 16 wide, on patches of 8 pixels, of which a method may show some or hide some (`kzoo.patches`).

    Outputs: "tokens" `[B, T, 16]`; "embedding", their mean `[B, 16]`.
    """
    inputs = keras.Input(input_shape, name="image")
    drawn = keras.initializers.RandomUniform(-0.3, 0.3)  # wide, so that the position codes do not drown the patches
    x: Any = keras.layers.Conv2D(_WIDTHS[1], _PATCH, _PATCH, kernel_initializer=drawn, name="patches")(inputs)
    x = KeptPatches(_PATCH, name="patch_tokens")(Positions(name="positions")(MaskedPatches(name="masked_patches")(x)))
    for index in (1, 2):
        x = TransformerBlock(2, name=f"block_{index}")(x)
    x = LayerNormalization(name="norm")(x)
    outputs = {"embedding": keras.layers.GlobalAveragePooling1D(name="embedding")(x), "tokens": x}
    return keras.Model(inputs, outputs, name="tiny")


def tiny_text_backbone(input_shape: tuple[int | None, ...]) -> keras.Model:
    """Embedded words and one convolution over them; `input_shape` is (length T, vocabulary size V).

    Outputs: "tokens" `[B, T, 32]`; "embedding", their mean `[B, 32]`.
    """
    length, words = input_shape
    x: Any = keras.Input((length,), dtype="int32", name="tokens")
    inputs = x
    x = keras.layers.Embedding(words, _WIDTHS[-1], name="words")(x)
    x = keras.layers.Conv1D(_WIDTHS[-1], 3, padding="same", activation="relu", name="conv")(x)
    outputs = {"embedding": keras.layers.GlobalAveragePooling1D(name="embedding")(x), "tokens": x}
    return keras.Model(inputs, outputs, name="tiny")
