"""From the maps of an encoder to disparity at several scales: the decoder of Monodepth and Monodepth2."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from kzoo.errors import OptionsError


def maps_of(backbone: keras.Model) -> dict[int, str]:
    """By stride, the name of the deepest map of it. Raises OptionsError where strides are no powers of two."""
    height = backbone.input_shape[1]
    found: dict[int, str] = {}
    for name in sorted(name for name in backbone.output if name.startswith("map")):
        stride = height // backbone.output[name].shape[1]
        if name == "map" or stride not in found:
            found[stride] = name
    if any(height % stride or stride & (stride - 1) for stride in found) or max(found) < 2:
        raise OptionsError([f"needs maps at 1/2, 1/4, ... of pictures that these divide; received {sorted(found)}"])
    return found


def disparity_decoder(backbone: keras.Model, width: int, channels: int, scales: int) -> keras.Model:
    """Maps -> up by two (nearest), convolution, joined with the encoder's map of that size and the disparity so far,
    convolution, ELU, ... -> a sigmoid at each of the finest `scales` sizes: a list of `[B, H / 2^s, W / 2^s, channels]`
    in [0, 1], the finest first.

    width: channels at full size; twice as many at each half, at most 8 times.
    """
    maps = maps_of(backbone)
    inputs = {stride: keras.Input(backbone.output[name].shape[1:], name=name) for stride, name in maps.items()}
    stride = max(maps)
    x: Any = inputs[stride]
    found: dict[int, Any] = {}
    # half precision would round disparities to a tenth of a pixel and more
    precise = keras.backend.result_type(keras.config.dtype_policy().compute_dtype, "float32")
    while stride > 1:
        stride //= 2
        units = width * min(stride, 8)
        x = _convolve(layers.UpSampling2D(2, name=f"up_{stride}")(x), units, f"up_conv_{stride}")
        known = [x, *([inputs[stride]] if stride in inputs else [])]
        if 2 * stride in found:
            known.append(layers.UpSampling2D(2, name=f"up_disparity_{stride}")(found[2 * stride]))
        x = _convolve(
            layers.Concatenate(name=f"join_{stride}")(known) if len(known) > 1 else x, units, f"conv_{stride}"
        )
        if stride < 1 << scales:
            found[stride] = layers.Conv2D(
                channels, 3, padding="same", activation="sigmoid", dtype=precise, name=f"disparity_{stride}"
            )(x)
    outputs = [found[stride] for stride in sorted(found)]
    return keras.Model({maps[stride]: tensor for stride, tensor in inputs.items()}, outputs, name="decoder")


def pyramid(images: tf.Tensor, scales: int) -> list[tf.Tensor]:
    """The pictures at full size, half, a quarter, ..., by means over squares."""
    return [images if not s else tf.nn.avg_pool2d(images, 1 << s, 1 << s, "VALID") for s in range(scales)]


def _convolve(x: Any, width: int, name: str) -> Any:
    return layers.Conv2D(width, 3, padding="same", activation="elu", name=name)(x)
