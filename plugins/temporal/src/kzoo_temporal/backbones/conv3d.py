"""A small convolutional network of video, in the manner of C3D (Tran et al. 2015): 3 x 3 x 3 all through."""

from typing import Any

import keras
from keras import layers

from kzoo.layers import BatchNormalization
from kzoo_temporal.options import Conv3DOptions


def conv3d_small(input_shape: tuple[int | None, ...], options: Conv3DOptions) -> keras.Model:
    """Four blocks of convolution, batch normalisation and ReLU; each halves the pictures, all but the first time too.

    `[B, T, H, W, C]` in [0, 1] -> "embedding" `[B, 8 * width]`, the mean of the last `[B, T/8, H/16, W/16, 8 * width]`.
    """
    x: Any = keras.Input(input_shape, name="video")
    inputs = x
    for level in range(4):
        strides = (1 if level == 0 else 2, 2, 2)
        x = layers.Conv3D(options.width << level, 3, strides, padding="same", use_bias=False, name=f"conv_{level + 1}")(
            x
        )
        x = layers.ReLU(name=f"relu_{level + 1}")(BatchNormalization(name=f"norm_{level + 1}")(x))
    outputs = {"embedding": layers.GlobalAveragePooling3D(name="embedding")(x)}
    return keras.Model(inputs, outputs, name="conv3d_small")
