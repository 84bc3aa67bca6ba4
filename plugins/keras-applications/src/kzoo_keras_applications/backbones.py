"""The backbones of keras.applications under kzoo's contract.

Input: `[B, H, W, C]` in [0, 1], C of 1 or 3, sides from 8 pixels. Each model's own preprocessing is inside, grey images
are repeated to three channels, and images below 32 pixels, which keras.applications refuses, are enlarged to 32.
Outputs: "map" the last feature map; "map_1", "map_2", ... earlier ones, fine to coarse; "embedding" the mean of "map"
over positions.
What differs from Keras: dropout is off, as it draws alike on all replicas; batch normalisation is kzoo's, with a
momentum of 0.9.
"""

import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
from keras import applications, layers

from kzoo.errors import KzooError, RecipeError
from kzoo.layers import swap_batch_normalization
from kzoo.system import disk
from kzoo.system.surroundings import keras_settings
from kzoo_keras_applications.options import KerasApplicationsOptions

InputShape = tuple[int | None, int | None, int]

SMALLEST_SIDE = 32  # keras.applications refuses less


def _build(
    name: str,
    input_shape: InputShape,
    options: KerasApplicationsOptions,
    model: Callable[..., keras.Model],
    preprocess: Callable[[keras.KerasTensor], keras.KerasTensor],
    levels: Sequence[str],
) -> keras.Model:
    """Wrap a model of keras.applications; `preprocess` takes [0, 255], `levels` are the layers of the earlier maps."""
    *sides, channels = input_shape
    if channels not in (1, 3):
        raise RecipeError(f"keras_applications/{name}: needs grey or RGB images, not {channels} channels")

    x = inputs = keras.Input(input_shape, name="image")
    inner = [side if side is None else max(side, SMALLEST_SIDE) for side in sides]
    if inner != sides:
        if None in inner:
            raise RecipeError(f"keras_applications/{name}: leave both sides open or none; set the size of the views")
        x = layers.Resizing(*inner, interpolation="bilinear", name="enlarge")(x)
    if channels == 1:
        x = layers.Concatenate(name="repeat_grey")([x, x, x])
    x = preprocess(layers.Rescaling(255.0, name="to_255")(x))

    with _finding_weights(name):
        base = model(include_top=False, weights=options.weights, input_shape=(*inner, 3))
    for layer in base.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.0
    swap_batch_normalization(base, momentum=0.9)
    maps = {f"map_{index}": base.get_layer(level).output for index, level in enumerate(levels, start=1)}
    outputs = keras.Model(base.inputs[0], {"map": base.output, **maps}, name="features")(x)
    outputs["embedding"] = layers.GlobalAveragePooling2D(name="embedding")(outputs["map"])
    return keras.Model(inputs, outputs, name=name)


@contextmanager
def _finding_weights(name: str) -> Iterator[None]:
    """Where Keras cannot download weights, say where the file must lie. What else goes wrong stays as it is."""
    try:
        yield
    except Exception as error:
        fetching = any(frame.name in ("get_file", "urlretrieve") for frame in traceback.extract_tb(error.__traceback__))
        if not fetching or disk.refusal(error) is not None:
            raise
        found = re.search(r"https?://\S+", str(error))
        url = found[0].rstrip(":") if found else ""
        home = keras_settings()[0].parent
        if not os.access(home, os.W_OK):
            home = Path("/tmp/.keras")  # as Keras does
        what = f"put {url} there as {home / 'models' / url.rpartition('/')[2]}" if url else f"see {home / 'models'}"
        raise KzooError(
            f"keras_applications/{name}: the weights could not be downloaded; {what}, or set backbone.options.weights "
            "to null"
        ) from error


def resnet50(input_shape: InputShape, options: KerasApplicationsOptions) -> keras.Model:
    """ResNet-50 with the stride in the 1x1 layers: strides 4 to 32."""
    levels = ["conv2_block3_out", "conv3_block4_out", "conv4_block6_out"]
    resnet = applications.resnet
    return _build("resnet50", input_shape, options, resnet.ResNet50, resnet.preprocess_input, levels)


def convnext_tiny(input_shape: InputShape, options: KerasApplicationsOptions) -> keras.Model:
    """ConvNeXt-T: strides 4 to 32; "map" after the final layer normalisation."""
    levels = [f"convnext_tiny_stage_{stage}_block_{block}_identity" for stage, block in enumerate((2, 2, 8))]
    convnext = applications.convnext
    return _build("convnext_tiny", input_shape, options, convnext.ConvNeXtTiny, convnext.preprocess_input, levels)


def efficientnetv2_b0(input_shape: InputShape, options: KerasApplicationsOptions) -> keras.Model:
    """EfficientNetV2-B0: strides 2 to 32; "map" after the 1280-wide top layer."""
    levels = ["block1a_project_activation", "block2b_add", "block3b_add", "block5e_add"]
    family = applications.efficientnet_v2
    return _build("efficientnetv2_b0", input_shape, options, family.EfficientNetV2B0, family.preprocess_input, levels)


def mobilenetv3_small(input_shape: InputShape, options: KerasApplicationsOptions) -> keras.Model:
    """MobileNetV3-Small: strides 4 to 32; "map" after the 576-wide top layer."""
    levels = ["expanded_conv_project_bn", "expanded_conv_2_add", "expanded_conv_7_add"]
    preprocess = applications.mobilenet_v3.preprocess_input
    return _build("mobilenetv3_small", input_shape, options, applications.MobileNetV3Small, preprocess, levels)
