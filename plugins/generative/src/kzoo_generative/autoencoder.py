"""Autoencoder (Hinton and Salakhutdinov, Science 2006) and denoising autoencoder (Vincent et al., ICML 2008)."""

import keras
import tensorflow as tf

from kzoo.data import resize_and_crop, to_float
from kzoo.layers import BatchNormalization
from kzoo.method import Batch, Method
from kzoo.random import fold_in, normal, uniform
from kzoo_generative.options import AutoencoderOptions


class Autoencoder(Method):
    """Rebuild the image from a code that is narrower than the image.

    Images `[B, h, w, C]` in [0, 1] -> backbone `[B, D]` -> Dense code `[B, bottleneck]` -> decoder `[B, h, w, C]`.
    Loss: the mean over batch and all values of (x - x_hat)^2, so predicting each value's mean gives its variance.
    With `noise` or `masked` the input is corrupted and the target stays clean.

    Downstream is the backbone's embedding, as for every method here, not the code. Deviation: the backbone is the
    encoder, whatever it is; the decoder mirrors a stack of stride-2 convolutions, not that backbone.
    """

    options: AutoencoderOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: AutoencoderOptions) -> Batch:
        size = options.size or batch["image"].shape[1]
        target = resize_and_crop(to_float(batch["image"]), size)
        image = target
        if options.noise:
            image += options.noise * normal(fold_in(seed, "noise"), target.shape[1:])
        if options.masked:
            kept = uniform(fold_in(seed, "mask"), (size, size, 1)) >= options.masked  # all channels of a pixel together
            image *= tf.cast(kept, image.dtype)
        return {"image": image, "target": target}

    def build_heads(self) -> None:
        size, channels = self.input_size, self.backbone.input_shape[-1]
        self.code = keras.layers.Dense(self.options.bottleneck, name="code")
        self.code.build((None, self.width))
        build = _linear_decoder if self.options.decoder == "linear" else _conv_decoder
        self.decoder = build(size, channels, self.options)

    def forward(self, batch: Batch, training: bool) -> Batch:
        code = self.code(self.embed(batch["image"], training))
        return {"code": code, "reconstruction": self.decoder(code, training=training)}

    def loss(self, outputs: Batch, batch: Batch) -> tf.Tensor:
        rebuilt = outputs["reconstruction"]
        return tf.reduce_mean(tf.square(rebuilt - tf.cast(batch["target"], rebuilt.dtype)))

    def reconstruct(self, images: tf.Tensor) -> tf.Tensor:
        """What the decoder makes of images (uint8, or float in [0, 1]), `[B, h, w, C]`, in inference mode."""
        return self.forward({"image": to_float(images)}, training=False)["reconstruction"]


def _linear_decoder(size: int, channels: int, options: AutoencoderOptions) -> keras.Model:
    layers = [
        keras.Input((options.bottleneck,)),
        keras.layers.Dense(size * size * channels),
        keras.layers.Reshape((size, size, channels)),
    ]
    return keras.Sequential(layers, name="decoder")


def _conv_decoder(size: int, channels: int, options: AutoencoderOptions) -> keras.Model:
    """Dense -> 4 to 7 pixels a side -> doubled by transposed 4x4 convolutions until the image is covered -> cropped."""
    doublings = max(1, (size - 1).bit_length() - 2)
    side = -(-size // 2**doublings)
    width = options.decoder_width * 2 ** (doublings - 1)
    layers = [
        keras.Input((options.bottleneck,)),
        keras.layers.Dense(side * side * width, use_bias=False),
        BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.Reshape((side, side, width)),
    ]
    for _ in range(doublings - 1):
        width //= 2
        layers += [
            keras.layers.Conv2DTranspose(width, 4, strides=2, padding="same", use_bias=False),
            BatchNormalization(),
            keras.layers.ReLU(),
        ]
    over = side * 2**doublings - size
    layers += [
        keras.layers.Conv2DTranspose(channels, 4, strides=2, padding="same"),
        keras.layers.Cropping2D(((over // 2, over - over // 2),) * 2),
        keras.layers.Activation("sigmoid"),
    ]
    return keras.Sequential(layers, name="decoder")
