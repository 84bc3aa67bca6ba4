"""newbackbone, as generated: a small convolutional network. Replace it by the encoder of your paper.

Input: `[B, H, W, C]` in [0, 1]. Outputs: "map_1", "map_2" and "map" at 1/2, 1/4 and 1/8 of the image's resolution;
"embedding", the mean of "map" over positions.
"""

import keras

from kzoo.layers import BatchNormalization, image_input
from kzoo_newbackbone.options import NewBackboneOptions


def newbackbone(input_shape: tuple[int | None, int | None, int], options: NewBackboneOptions) -> keras.Model:
    """Three times: 3x3 convolution of stride 2, batch normalisation, ReLU."""
    inputs, x = image_input(input_shape, options)
    maps = []
    for stage in range(3):
        filters = options.width * 2**stage
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"conv_{stage}")(x)
        x = keras.layers.ReLU(name=f"relu_{stage}")(BatchNormalization(name=f"norm_{stage}")(x))
        maps.append(x)
    outputs = {
        "embedding": keras.layers.GlobalAveragePooling2D(name="embedding")(x),
        "map": x,
        "map_1": maps[0],
        "map_2": maps[1],
    }
    return keras.Model(inputs, outputs, name="newbackbone")
