"""KerasCV's backbones under kzoo's contract, from explicit arguments: nothing is fetched.

Input: `[B, H, W, C]` in [0, 1], any C, sides from 8 pixels; images that an architecture cannot take are enlarged to
the next size that it can. Outputs: "map" the last feature map; "map_1", "map_2", ... the earlier levels of the pyramid,
fine to coarse; "embedding" the mean of "map" over positions.
What differs from KerasCV: drop path and stochastic depth are off, as they draw alike on all replicas; batch
normalisation is kzoo's, with a momentum of 0.9.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras

from kzoo.errors import RecipeError
from kzoo.layers import every_layer, swap_batch_normalization
from kzoo_keras_cv.options import KerasCVOptions

InputShape = tuple[int | None, int | None, int]


@dataclass(frozen=True)
class Architecture:
    """A class of `keras_cv.models`, its arguments, and the sides it takes: multiples of `multiple`, from `smallest`.

    blocks: the argument that says how many blocks each stage has. fewest: what a stage can have, if it had as many.
    """

    model: str
    blocks: str
    arguments: dict[str, Any]
    fewest: int = 1
    smallest: int = 8
    multiple: int = 1
    square: bool = False

    def shortened(self, depth: float) -> dict[str, Any]:
        """The arguments with this share of each stage's blocks, rounded up."""
        counts = self.arguments[self.blocks]
        return {
            **self.arguments,
            self.blocks: [max(math.ceil(depth * count), min(self.fewest, count)) for count in counts],
        }

    def side(self, side: int) -> int:
        """The smallest side that the architecture takes and that is not below `side`."""
        return max(self.smallest, math.ceil(side / self.multiple) * self.multiple)


ARCHITECTURES = {
    "resnet18_v2": Architecture(
        "ResNetV2Backbone",
        "stackwise_blocks",
        {
            "stackwise_filters": [64, 128, 256, 512],
            "stackwise_blocks": [2, 2, 2, 2],
            "stackwise_strides": [1, 2, 2, 2],
            "block_type": "basic_block",
        },
        fewest=2,  # a single block's layers share a name
    ),
    "resnet50_v2": Architecture(
        "ResNetV2Backbone",
        "stackwise_blocks",
        {
            "stackwise_filters": [64, 128, 256, 512],
            "stackwise_blocks": [3, 4, 6, 3],
            "stackwise_strides": [1, 2, 2, 2],
            "block_type": "block",
        },
        fewest=2,
    ),
    # its poolings halve and drop the remainder: below 32 pixels nothing is left
    "densenet121": Architecture(
        "DenseNetBackbone", "stackwise_num_repeats", {"stackwise_num_repeats": [6, 12, 24, 16]}, smallest=32
    ),
    # its stem splits even from odd rows and columns
    "csp_darknet_tiny": Architecture(
        "CSPDarkNetBackbone",
        "stackwise_depth",
        {"stackwise_channels": [48, 96, 192, 384], "stackwise_depth": [1, 3, 3, 1]},
        multiple=2,
    ),
    "efficientnetv2_b0": Architecture(
        "EfficientNetV2Backbone",
        "stackwise_num_repeats",
        {
            "stackwise_kernel_sizes": [3, 3, 3, 3, 3, 3],
            "stackwise_num_repeats": [1, 2, 2, 3, 5, 8],
            "stackwise_input_filters": [32, 16, 32, 48, 96, 112],
            "stackwise_output_filters": [16, 32, 48, 96, 112, 192],
            "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6],
            "stackwise_squeeze_and_excite_ratios": [0.0, 0.0, 0.0, 0.25, 0.25, 0.25],
            "stackwise_strides": [1, 2, 2, 2, 1, 2],
            "stackwise_conv_types": ["fused", "fused", "fused", "unfused", "unfused", "unfused"],
            "width_coefficient": 1.0,
            "depth_coefficient": 1.0,
            "skip_connection_dropout": 0.0,
        },
    ),
    # it takes square roots of the number of tokens, and cannot be built with a single one
    "mit_b0": Architecture(
        "MiTBackbone",
        "depths",
        {"depths": [2, 2, 2, 2], "embedding_dims": [32, 64, 160, 256]},
        smallest=64,
        multiple=32,
        square=True,
    ),
}


@keras.saving.register_keras_serializable(package="kzoo_keras_cv")
class KerasCVBackbone(keras.Model):
    """A Functional model around a KerasCV backbone, which is rebuilt from its name on loading.

    Not left to Keras, because KerasCV's composite layers neither reload by themselves (Mix Transformer), nor without
    unsafe deserialisation (CSPDarkNet's lambdas), nor with kzoo's batch normalisation inside.

    Args:
        architecture: a key of `ARCHITECTURES`.
        input_shape: (height, width, channels); sides may be None where the architecture takes any size.
        depth: the share of each stage's blocks that it has, rounded up.
    Raises: RecipeError if the architecture needs square images or a size, and `input_shape` has not.
    """

    def __init__(self, architecture: str, input_shape: InputShape, depth: float = 1.0, **kwargs: Any):
        import keras_cv  # patches Keras on import: not before it is needed

        settings = ARCHITECTURES[architecture]
        height, width, channels = input_shape
        sized = height is not None and width is not None
        if not sized and (settings.multiple > 1 or settings.smallest > 8):
            raise RecipeError(f"keras_cv/{architecture}: needs images of one size; set the size of the views")
        if settings.square and height != width:
            raise RecipeError(
                f"keras_cv/{architecture}: needs square images, not {height}x{width}; set the views' size"
            )

        x = inputs = keras.Input(input_shape, name="image")
        inner_shape = tuple(settings.side(side) for side in (height, width)) if sized else (height, width)
        if inner_shape != (height, width):
            x = keras.layers.Resizing(*inner_shape, interpolation="bilinear", name="enlarge")(x)
        backbone = getattr(keras_cv.models, settings.model)(
            include_rescaling=False, input_shape=(*inner_shape, channels), **settings.shortened(depth)
        )
        for layer in every_layer(backbone):
            if isinstance(layer, keras_cv.layers.DropPath):
                layer.rate = 0.0
        swap_batch_normalization(backbone, momentum=0.9)

        levels = [backbone.get_layer(name).output for name in backbone.pyramid_level_inputs.values()]
        maps = {f"map_{level}": earlier for level, earlier in enumerate(levels[:-1], start=1)}
        features = keras.Model(backbone.inputs[0], {"map": backbone.output, **maps}, name="features")
        outputs = features(x)
        outputs["embedding"] = keras.layers.GlobalAveragePooling2D(name="embedding")(outputs["map"])
        super().__init__(inputs=inputs, outputs=outputs, name=kwargs.pop("name", architecture), **kwargs)
        self.architecture = architecture
        self.depth = depth

    def get_config(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            "input_shape": self.input_shape[1:],
            "depth": self.depth,
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "KerasCVBackbone":
        return cls(**config)


def resnet18_v2(input_shape: InputShape, options: KerasCVOptions) -> keras.Model:
    """ResNet-18 v2: strides 4 to 32; "map" after the final normalisation and ReLU."""
    return KerasCVBackbone("resnet18_v2", input_shape, options.depth)


def resnet50_v2(input_shape: InputShape, options: KerasCVOptions) -> keras.Model:
    """ResNet-50 v2: strides 4 to 32; "map" after the final normalisation and ReLU."""
    return KerasCVBackbone("resnet50_v2", input_shape, options.depth)


def densenet121(input_shape: InputShape, options: KerasCVOptions) -> keras.Model:
    """DenseNet-121: strides 4 to 32; images below 32 pixels are enlarged to 32."""
    return KerasCVBackbone("densenet121", input_shape, options.depth)


def csp_darknet_tiny(input_shape: InputShape, options: KerasCVOptions) -> keras.Model:
    """CSPDarkNet, the tiny one of YOLOX: strides 4 to 32; odd sides are enlarged by a pixel."""
    return KerasCVBackbone("csp_darknet_tiny", input_shape, options.depth)


def efficientnetv2_b0(input_shape: InputShape, options: KerasCVOptions) -> keras.Model:
    """EfficientNetV2-B0: strides 2 to 32; "map" after the 1280-wide top layer."""
    return KerasCVBackbone("efficientnetv2_b0", input_shape, options.depth)


def mit_b0(input_shape: InputShape, options: KerasCVOptions) -> keras.Model:
    """Mix Transformer B0 as KerasCV builds it: strides 4 to 32; square, enlarged to a multiple of 32 from 64."""
    return KerasCVBackbone("mit_b0", input_shape, options.depth)
