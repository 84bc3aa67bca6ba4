"""Autoencoder (Hinton and Salakhutdinov, Science 2006) and denoising autoencoder (Vincent et al., ICML 2008)."""

import keras
import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA

from kzoo.data import Source, evaluation_batches, resize_and_crop, to_float
from kzoo.method import Batch, Logs, Method, Signature
from kzoo.random import fold_in, normal, uniform
from kzoo_generative.baseline import channel_moments
from kzoo_generative.networks import features, upconvolutions
from kzoo_generative.options import AutoencoderOptions

_PCA_IMAGES = 4000  # that the reference of `extra_metrics` is fitted on


class Autoencoder(Method):
    """Rebuild the image from a code that is narrower than the image.

    Images `[B, h, w, C]` in [0, 1] -> backbone -> its last map, flattened (the embedding, where it has no map) -> Dense
    code `[B, bottleneck]` -> decoder `[B, h, w, C]`. Loss: the mean over batch and all values of (x - x_hat)^2, so
    predicting each channel's mean gives its variance, which is logged beside. With `noise` or `masked` the input is
    corrupted and the target stays clean.

    Downstream is the code. Deviation: the encoder is whatever backbone is given; the decoder mirrors a stack of
    stride-2 convolutions, not that backbone.
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
        code = keras.layers.Dense(self.options.bottleneck, name="code")(features(self.backbone))
        self.coder = keras.Model(self.backbone.input, {**self.backbone.output, "embedding": code}, name="coder")
        if self.options.decoder == "linear":
            self.decoder = _linear_decoder(self.options.bottleneck, size, channels)
        else:
            self.decoder = upconvolutions(self.options.bottleneck, size, channels, width=self.options.decoder_width)

    @property
    def encoder(self) -> keras.Model:
        """The backbone with the code, `[B, bottleneck]`, in the place of its embedding."""
        return self.coder

    def forward(self, batch: Batch, training: bool) -> Batch:
        code = self.coder(batch["image"], training=training)["embedding"]
        return {"code": code, "reconstruction": self.decoder(code, training=training)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """Mean squared error; "variance" is what predicting each channel's mean would cost."""
        rebuilt = outputs["reconstruction"]
        target = tf.cast(batch["target"], rebuilt.dtype)
        _, variance = channel_moments(target)
        return {"loss": tf.reduce_mean(tf.square(rebuilt - target)), "variance": tf.reduce_mean(variance)}

    def reconstruct(self, images: tf.Tensor) -> tf.Tensor:
        """What the decoder makes of images (uint8, or float in [0, 1]), `[B, h, w, C]`, in inference mode."""
        return self.forward({"image": to_float(images)}, training=False)["reconstruction"]

    def signatures(self) -> dict[str, Signature]:
        return {"reconstruct": lambda images: {"image": self.reconstruct(images)}}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray]:
        rebuilt = self.forward(batch, training=False)["reconstruction"]
        shown = {"input": batch["image"], "reconstruction": rebuilt}
        return {title: np.clip(tf.cast(image, "float32").numpy(), 0.0, 1.0) for title, image in shown.items()}

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """Mean squared error of clean images, held out where there is a test split, and that of as many principal
        components, fitted on 4,000 training images: what the best linear autoencoder of this width reaches.
        """
        held_out = _images(test or train, self.input_size)
        fitted_on = _images(train, self.input_size)
        components = min(self.options.bottleneck, *fitted_on.shape)
        pca = PCA(components, random_state=0).fit(fitted_on)
        rebuilt_by_pca = pca.inverse_transform(pca.transform(held_out))
        shape = (-1, self.input_size, self.input_size, self.backbone.input_shape[-1])
        parts = np.array_split(held_out.reshape(shape), max(1, len(held_out) // 256))
        rebuilt = [tf.cast(self.reconstruct(part), "float32").numpy() for part in parts]
        return {
            "reconstruction_error": float(np.mean(np.square(held_out.reshape(shape) - np.concatenate(rebuilt)))),
            "pca_error": float(np.mean(np.square(held_out - rebuilt_by_pca))),
        }


def _linear_decoder(code: int, size: int, channels: int) -> keras.Sequential:
    layers = [
        keras.Input((code,)),
        keras.layers.Dense(size * size * channels),
        keras.layers.Reshape((size, size, channels)),
    ]
    return keras.Sequential(layers, name="decoder")


def _images(source: Source, size: int) -> np.ndarray:
    """At most 4,000 images, spread evenly over the source, flat: float32 `[n, size * size * C]` in [0, 1]."""
    every = -(-source.size // _PCA_IMAGES)
    parts = []
    for batch in evaluation_batches(source, 256, size):
        image = batch["image"].numpy()[batch["id"].numpy() % every == 0]
        parts.append(image.reshape(len(image), -1))
    return np.concatenate(parts)
