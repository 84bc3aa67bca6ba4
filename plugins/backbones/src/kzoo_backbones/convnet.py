"""The four-layer network of the few-shot literature (Vinyals et al. 2016, arXiv:1606.04080, section 4.1).

Input: `[B, H, W, C]` in [0, 1], from 16 pixels. Outputs: "map_1", "map_2", "map_3" at 1/2, 1/4, 1/8 of the image's
resolution, "map" at 1/16, "embedding" its mean over positions.
"""

import keras
from keras import layers

from kzoo.layers import BatchNormalization, image_input
from kzoo_backbones.options import ConvNet4Options


def convnet4(input_shape: tuple[int | None, int | None, int], options: ConvNet4Options) -> keras.Model:
    """Four times: 3x3 convolution, batch normalisation, ReLU, 2x2 max pooling."""
    inputs, x = image_input(input_shape, options)
    maps = []
    for index in range(1, 5):
        x = layers.Conv2D(
            options.width, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"conv_{index}"
        )(x)
        x = BatchNormalization(name=f"norm_{index}")(x)
        x = layers.ReLU(name=f"relu_{index}")(x)
        x = layers.MaxPooling2D(2, name=f"pool_{index}")(x)
        maps.append(x)
    outputs = {"embedding": layers.GlobalAveragePooling2D(name="embedding")(x), "map": x}
    outputs |= {f"map_{level}": earlier for level, earlier in enumerate(maps[:-1], start=1)}
    return keras.Model(inputs, outputs, name="convnet4")
