"""Residual networks (He et al. 2016, arXiv:1512.03385), as torchvision builds them.

Symmetric padding, no biases before normalisation, and in bottlenecks the stride in the 3x3 layer. The "cifar" stem
keeps the resolution of small images, as SimCLR's appendix B.9 does.
Input: `[B, H, W, C]` in [0, 1], any size from 8 pixels. Outputs:
"map_1", "map_2", ... at 1, 1/2, 1/4, ... of the stem's resolution
(the imagenet stem's: a quarter of the image's), "map" the last, "embedding" its mean over positions.
"""

from collections.abc import Callable, Sequence

import keras
from keras import layers

from kzoo.layers import BatchNormalization, image_input
from kzoo_backbones.options import ResNetOptions, SmallResNetOptions

InputShape = tuple[int | None, int | None, int]
Block = Callable[[keras.KerasTensor, int, int, SmallResNetOptions, str], keras.KerasTensor]


def _convolution(
    x: keras.KerasTensor,
    filters: int,
    size: int,
    stride: int,
    name: str,
    *,
    use_bias: bool = False,
    kernel: str = "he_normal",
) -> keras.KerasTensor:
    padding = "same"
    if size > 1 and stride > 1:  # here "same" pads unevenly; published networks put size // 2 on each side
        x, padding = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x), "valid"
    return layers.Conv2D(filters, size, stride, padding, use_bias=use_bias, kernel_initializer=kernel, name=name)(x)


def _norm(norm: str, gamma: str, name: str) -> keras.layers.Layer:
    if norm == "layer":  # over all units of a layer, as Ba et al. 2016 have it: one group of Wu and He 2018
        return layers.GroupNormalization(groups=1, epsilon=1e-5, gamma_initializer=gamma, name=name)
    return BatchNormalization(gamma_initializer=gamma, name=name)


def _convolution_norm(
    x: keras.KerasTensor,
    filters: int,
    size: int,
    stride: int,
    options: SmallResNetOptions,
    name: str,
    *,
    relu: bool = True,
    last: bool = False,
) -> keras.KerasTensor:
    """last: of a residual branch, which may have to start at zero."""
    start_at_zero = last and options.zero_init_residual
    if options.norm == "none":  # Zhang, Dauphin and Ma 2019 ("Fixup", arXiv:1901.09321): else each block doubles x
        kernel = "zeros" if start_at_zero else "he_normal"
        x = _convolution(x, filters, size, stride, f"{name}_conv", use_bias=True, kernel=kernel)
    else:
        x = _convolution(x, filters, size, stride, f"{name}_conv")
        x = _norm(options.norm, "zeros" if start_at_zero else "ones", f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _add_shortcut(
    x: keras.KerasTensor, residual: keras.KerasTensor, stride: int, options: SmallResNetOptions, name: str
) -> keras.KerasTensor:
    filters = residual.shape[-1]
    if stride > 1 or x.shape[-1] != filters:
        x = _convolution_norm(x, filters, 1, stride, options, f"{name}_shortcut", relu=False)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, residual]))


def _basic_block(
    x: keras.KerasTensor, filters: int, stride: int, options: SmallResNetOptions, name: str
) -> keras.KerasTensor:
    residual = _convolution_norm(x, filters, 3, stride, options, f"{name}_1")
    residual = _convolution_norm(residual, filters, 3, 1, options, f"{name}_2", relu=False, last=True)
    return _add_shortcut(x, residual, stride, options, name)


def _bottleneck(
    x: keras.KerasTensor, filters: int, stride: int, options: SmallResNetOptions, name: str
) -> keras.KerasTensor:
    residual = _convolution_norm(x, filters, 1, 1, options, f"{name}_1")
    residual = _convolution_norm(residual, filters, 3, stride, options, f"{name}_2")
    residual = _convolution_norm(residual, 4 * filters, 1, 1, options, f"{name}_3", relu=False, last=True)
    return _add_shortcut(x, residual, stride, options, name)


def _resnet(
    name: str, input_shape: InputShape, options: SmallResNetOptions, block: Block, depths: Sequence[int], stem: str
) -> keras.Model:
    inputs, x = image_input(input_shape, options)
    if stem == "imagenet":
        x = _convolution_norm(x, options.width, 7, 2, options, "stem")
        x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)  # zeros, and not -inf, are right after a ReLU
        x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    else:
        x = _convolution_norm(x, options.width, 3, 1, options, "stem")

    maps = []
    for stage, depth in enumerate(depths):
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            label = f"stage_{stage + 1}_block_{index + 1}"
            x = block(x, options.width * 2**stage, stride, options, label)
        maps.append(x)

    outputs = {"embedding": layers.GlobalAveragePooling2D(name="embedding")(x), "map": x}
    outputs |= {f"map_{level}": earlier for level, earlier in enumerate(maps[:-1], start=1)}
    return keras.Model(inputs, outputs, name=name)


def resnet18(input_shape: InputShape, options: ResNetOptions) -> keras.Model:
    """ResNet-18: 2, 2, 2, 2 basic blocks; with the default width an embedding of 512."""
    return _resnet("resnet18", input_shape, options, _basic_block, (2, 2, 2, 2), options.stem)


def resnet34(input_shape: InputShape, options: ResNetOptions) -> keras.Model:
    """ResNet-34: 3, 4, 6, 3 basic blocks; with the default width an embedding of 512."""
    return _resnet("resnet34", input_shape, options, _basic_block, (3, 4, 6, 3), options.stem)


def resnet50(input_shape: InputShape, options: ResNetOptions) -> keras.Model:
    """ResNet-50: 3, 4, 6, 3 bottlenecks; with the default width an embedding of 2048."""
    return _resnet("resnet50", input_shape, options, _bottleneck, (3, 4, 6, 3), options.stem)


def small_resnet(input_shape: InputShape, options: SmallResNetOptions) -> keras.Model:
    """One basic block in each of three stages, 32, 64 and 128 wide: for small images on a CPU."""
    return _resnet("small_resnet", input_shape, options, _basic_block, (1, 1, 1), "cifar")
