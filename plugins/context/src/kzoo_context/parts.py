"""What the methods that show the network parts of images share: cutting them out, one key for each, an entrance that
evens out contrast, and dropout that belongs to the example.
"""

from typing import Any

import keras
import tensorflow as tf

from kzoo.data import resize_and_crop, to_float
from kzoo.errors import OptionsError
from kzoo.method import Method
from kzoo.random import fold_in, uniform

BUILD_SIDE = 128  # of the images that a method is built on where nothing says: the shapes of heads do not depend on it
_FLAT = 1 / 255  # contrast below one step of 8-bit colour is not amplified


def square(images: tf.Tensor, size: int | None) -> tf.Tensor:
    """Square float images in [0, 1], `[B, size, size, C]`; by default of the shorter side that they have."""
    return resize_and_crop(to_float(images), size or min(images.shape[1:3]))


def keys_of(keys: tf.Tensor, parts: int, tag: str) -> tf.Tensor:
    """A key for each of so many parts of each example: int64 `[B * parts]`, those of an example together."""
    numbers = tf.tile(tf.range(parts), tf.shape(keys))
    return fold_in(tf.repeat(fold_in(keys, tag), parts), numbers)


def cut(images: tf.Tensor, corners: tf.Tensor, size: int, sides: tf.Tensor | None = None) -> tf.Tensor:
    """Cut N square boxes out of each image: float32 `[B, N, size, size, C]`.

    Args:
        images: float `[B, H, W, C]`. corners: int32 `[B, N, 2]`, top and left in pixels.
        sides: int32 `[B]`, sides of the boxes, which are resized to `size` (bilinear, pixel centres at half-integers);
            none: `size`, the pixels are copied.
    """
    height, width, channels = images.shape[1:]
    pixels = tf.reshape(images, [-1, height * width, channels])

    def at(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        return tf.gather(pixels, rows[..., :, None] * width + columns[..., None, :], batch_dims=1)

    top, left = corners[..., 0, None], corners[..., 1, None]
    if sides is None:
        return at(top + tf.range(size), left + tf.range(size))

    def between(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The pixel before each sample, the one after, and how far the sample lies between them."""
        length = sides[:, None, None]
        centres = (tf.range(size, dtype=tf.float32) + 0.5) * tf.cast(length, tf.float32) / size - 0.5
        centres = tf.clip_by_value(centres, 0.0, tf.cast(length - 1, tf.float32))
        low = tf.cast(centres, tf.int32)
        return start + low, start + tf.minimum(low + 1, length - 1), centres - tf.cast(low, tf.float32)

    upper, lower, down = between(top)
    before, after, right = between(left)
    down, right = down[..., :, None, None], right[..., None, :, None]
    first = (1 - right) * at(upper, before) + right * at(upper, after)
    second = (1 - right) * at(lower, before) + right * at(lower, after)
    return (1 - down) * first + down * second


def dropout(x: tf.Tensor, keys: tf.Tensor, rate: float) -> tf.Tensor:
    """Leave out a share of the features, scale up the others (Srivastava et al. 2014); `x` `[B, ...]`, keys `[B]`.

    Not the stock layer, which draws the same mask on every replica: this one belongs to the example.
    """
    if not rate:
        return x
    kept = uniform(fold_in(keys, "dropout"), x.shape[1:]) >= rate
    return tf.where(kept, x / (1 - rate), tf.zeros_like(x))


@keras.saving.register_keras_serializable(package="kzoo_context")
class EvenContrast(keras.layers.Layer):
    """Take the mean from each image and scale what is left to a root mean square: brightness and contrast, which
    neighbouring patches share, give nothing away. Images flatter than one step of 8-bit colour stay flat.

    Args:
        rms: of the result, over all pixels and channels; 1 means unit standard deviation.
        channel_means: take the mean from each channel; otherwise one from all.
    Input shape: float `[B, H, W, C]` in [0, 1]. Output shape: the same.
    """

    def __init__(self, rms: float = 1.0, channel_means: bool = False, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)  # statistics in full precision
        self.rms, self.channel_means = rms, channel_means

    def call(self, images: Any) -> tf.Tensor:
        x = tf.cast(images, "float64" if self.compute_dtype == "float64" else "float32")
        x -= tf.reduce_mean(x, axis=[1, 2] if self.channel_means else [1, 2, 3], keepdims=True)
        deviation = tf.sqrt(tf.maximum(tf.reduce_mean(tf.square(x), axis=[1, 2, 3], keepdims=True), _FLAT**2))
        return tf.cast(x * (self.rms / deviation), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rms": self.rms, "channel_means": self.channel_means}


def embed_parts(method: Method, parts: tf.Tensor, training: bool) -> tf.Tensor:
    """The embedding `[n, D]` of parts `[n, p, p, C]` by the method's encoder.

    Raises: OptionsError if nothing would be left of so small a part in the backbone: there, its mean is not a number.
    """
    backbone, side = method.backbone, parts.shape[1]
    if not _takes(backbone, side) and _takes(backbone, 2 * BUILD_SIDE):
        raise OptionsError(
            f"{method.name}: parts of {side} pixels are too small for {backbone.name}; raise method.options.size, or "
            "take a backbone with fewer stages"
        )
    return method.encoder(parts, training=training)["embedding"]


def _takes(backbone: keras.Model, side: int) -> bool:
    try:
        backbone.compute_output_shape((None, side, side, backbone.input_shape[-1]))
    except ValueError:
        return False
    return True


def encoder_after(method: Method, *entrance: keras.layers.Layer) -> keras.Model:
    """The encoder of a method on parts: some layers, then its backbone. What a part goes through in training, a whole
    image goes through downstream.

    Raises: OptionsError if the backbone takes images of one size only.
    """
    backbone = method.backbone
    shape = backbone.input_shape[1:]
    if shape[0] is not None or shape[1] is not None:
        raise OptionsError(
            f"{method.name}: shows the backbone parts of images, and {backbone.name} takes {shape[0]} x {shape[1]} "
            f"only; build it with input_shape=(None, None, {shape[2]})"
        )
    x = inputs = keras.Input(shape, name="image")
    for layer in entrance:
        x = layer(x)
    return keras.Model(inputs, backbone(x), name=f"{method.name}_encoder")
