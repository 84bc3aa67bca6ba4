"""AMDIM's encoder (Bachman, Hjelm, Buchwalter, NeurIPS 2019, arXiv:1906.00910, and the released model).

Nothing is padded, so that each location of a feature map sees its own part of the image only.

Input: `[B, S, S, C]` in [0, 1], S 32, 64 or 128. Outputs: "map_1" the 7x7 map and "map" the 5x5 map, both `4 width`
channels at 32 px and `8 width` at 64 and 128; "embedding" the 1x1 map, normalised over the batch, `rkhs` wide.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization, image_input
from kzoo_contrastive.specs.amdim_encoder import AMDIMEncoderOptions

SIZES = (32, 64, 128)
# torch's default, U(±1/sqrt(fan in)), as the released model has it
TORCH_UNIFORM = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"},
}


@keras.saving.register_keras_serializable(package="kzoo_contrastive")
class PadChannels(layers.Layer):
    """Append channels of zeros. Input shape: `[B, h, w, C]`. Output shape: `[B, h, w, channels]`."""

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, inputs: Any) -> Any:
        return tf.pad(inputs, [[0, 0], [0, 0], [0, 0], [0, self.channels - inputs.shape[-1]]])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package="kzoo_contrastive")
class ReflectPad(layers.Layer):
    """Mirror the image about its edges, `margin` pixels on each side. Input shape: `[B, h, w, C]`."""

    def __init__(self, margin: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.margin = margin

    def call(self, inputs: Any) -> Any:
        sides = [self.margin, self.margin]
        return tf.pad(inputs, [[0, 0], sides, sides, [0, 0]], mode="REFLECT")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        return (batch, height and height + 2 * self.margin, width and width + 2 * self.margin, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}


class _Network:
    """The parts of the encoder, with their shared settings."""

    def __init__(self, options: AMDIMEncoderOptions):
        self.options = options

    def norm(self, x: Any, name: str) -> Any:
        """Optional: the published models have it off."""
        return BatchNormalization(name=f"{name}_norm")(x) if self.options.batch_norm else x

    def convolution(self, x: Any, filters: int, size: int, stride: int, name: str) -> Any:
        """Conv3x3 of the released model: convolution, ReLU."""
        x = layers.Conv2D(
            filters,
            size,
            stride,
            use_bias=not self.options.batch_norm,
            kernel_initializer=TORCH_UNIFORM,
            name=f"{name}_conv",
        )(x)
        return layers.ReLU(name=f"{name}_relu")(self.norm(x, name))

    def unit(self, x: Any, filters: int, size: int, stride: int, name: str) -> Any:
        """ConvResNxN: shortcut + 1x1(ReLU(NxN)), its last kernel 0 at the start; no ReLU after the sum."""
        residual = layers.Conv2D(
            filters, size, stride, use_bias=False, kernel_initializer=TORCH_UNIFORM, name=f"{name}_conv_1"
        )(x)
        residual = layers.ReLU(name=f"{name}_relu")(self.norm(residual, name))
        last = "zeros" if self.options.zero_init_residual else TORCH_UNIFORM
        residual = layers.Conv2D(filters, 1, use_bias=False, kernel_initializer=last, name=f"{name}_conv_2")(residual)
        return layers.Add(name=f"{name}_add")([residual, self.shortcut(x, filters, size, stride, name)])

    def shortcut(self, x: Any, filters: int, size: int, stride: int, name: str) -> Any:
        """Average pooling, with zeros for channels that are missing; a convolution where there are too many."""
        if filters < x.shape[-1]:
            return layers.Conv2D(filters, size, stride, kernel_initializer=TORCH_UNIFORM, name=f"{name}_shortcut")(x)
        if size > 1:
            x = layers.AveragePooling2D(size, stride, name=f"{name}_pool")(x)
        return PadChannels(filters, name=f"{name}_pad")(x) if filters > x.shape[-1] else x

    def block(self, x: Any, filters: int, size: int, stride: int, name: str) -> Any:
        """ConvResBlock: one unit that changes the resolution, then `depth - 1` of 1x1."""
        x = self.unit(x, filters, size, stride, f"{name}_1")
        for index in range(2, self.options.depth + 1):
            x = self.unit(x, filters, 1, 1, f"{name}_{index}")
        return x


def amdim_encoder(input_shape: tuple[int | None, int | None, int], options: AMDIMEncoderOptions) -> keras.Model:
    """The encoder for 32, 64 and 128 pixels.

    Sides at 32: 30, 30, 14, 7, 5, 3, 1. At 64: 62, 30, 14, 7, 5, 3, 1; at 128 one strided layer comes before.
    Raises: OptionsError for images of another size.
    """
    height, width, _ = input_shape
    if height != width or height not in SIZES:
        raise OptionsError(
            f"amdim_encoder: takes images of 32, 64 or 128 px. Received: {height}x{width}; set method.options.size"
        )
    net, ndf = _Network(options), options.width
    inputs, x = image_input(input_shape, options)
    if height == 32:
        x = net.convolution(x, ndf, 3, 1, "stem")
        x = net.unit(x, ndf, 1, 1, "stem_unit")
        x = net.block(x, 2 * ndf, 4, 2, "block_1")
        x = net.block(x, 4 * ndf, 2, 2, "block_2")
        deep = 4 * ndf
    else:
        if height == 128:
            x = net.convolution(ReflectPad(2, name="stem_0_pad")(x), ndf, 5, 2, "stem_0")
        x = net.convolution(x, ndf, 3, 1, "stem")
        x = net.block(x, 2 * ndf, 4, 2, "block_0")
        x = net.block(x, 4 * ndf, 4, 2, "block_1")
        x = net.block(x, 8 * ndf, 2, 2, "block_2")
        deep = 8 * ndf
    seven = net.norm(x, "map_7")
    five = net.block(seven, deep, 3, 1, "block_3")
    x = net.block(five, deep, 3, 1, "block_4")
    x = net.unit(x, options.rkhs, 3, 1, "to_rkhs")
    one = BatchNormalization(name="embedding_norm")(x)  # always: it keeps the scores in the range of the clip
    outputs = {"embedding": layers.Flatten(name="embedding")(one), "map": five, "map_1": seven}
    return keras.Model(inputs, outputs, name="amdim_encoder")
