"""Deep InfoMax's encoder (Hjelm et al. 2019, appendix A.2): the discriminator of DCGAN (Radford et al. 2016).

4x4 convolutions with stride 2, batch normalisation and ReLU, down to a map of 4x4: three at 32 px, four at 64.
Input: `[B, S, S, C]` in [0, 1], from 24 px. Outputs: the last three maps, "map_1" 16x16, "map_2" 8x8 (the paper's local
map) and "map" 4x4, or next to that for other sizes; "embedding" all of "map" in one row, which is the paper's "conv".
"""

import math

import keras
from keras import layers

from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization, image_input
from kzoo_contrastive.specs.deep_infomax_encoder import DeepInfoMaxEncoderOptions


def deep_infomax_encoder(
    input_shape: tuple[int | None, int | None, int], options: DeepInfoMaxEncoderOptions
) -> keras.Model:
    """log2(side) - 2 strided convolutions, each twice as wide as the one before. Raises: OptionsError below 24 px."""
    side = min(extent or 0 for extent in input_shape[:2])
    if side < 24:
        raise OptionsError(
            f"deep_infomax_encoder: takes images from 24 px. Received: {input_shape[0]}x{input_shape[1]}"
        )
    depth = round(math.log2(side)) - 2
    inputs, x = image_input(input_shape, options)
    maps = []
    for level in range(1, depth + 1):
        x = layers.ZeroPadding2D(1, name=f"pad_{level}")(x)
        x = layers.Conv2D(options.width * 2 ** (level - 1), 4, 2, use_bias=False, name=f"conv_{level}")(x)
        x = layers.ReLU(name=f"relu_{level}")(BatchNormalization(name=f"norm_{level}")(x))
        maps.append(x)
    outputs = {"embedding": layers.Flatten(name="embedding")(x), "map_1": maps[-3], "map_2": maps[-2], "map": x}
    return keras.Model(inputs, outputs, name="deep_infomax_encoder")
