"""Variational autoencoder (Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014)."""

import math

import keras
import numpy as np
import tensorflow as tf

from kzoo import replicas
from kzoo.data import resize_and_crop, to_float
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in, normal
from kzoo_generative.baseline import channel_moments
from kzoo_generative.networks import features, upconvolutions
from kzoo_generative.options import VAEOptions

_ACTIVE = 0.01  # nats; a latent dimension under it says nothing about the image


class VAE(Method):
    """Rebuild the image from a code drawn at random, at the price of what the code says about the image.

    Images `[B, h, w, C]` in [0, 1] -> backbone -> its last map, flattened (the embedding, where it has no map) -> two
    Dense layers, mu and log variance, `[B, latent]` -> z = mu + exp(log variance / 2) eps, eps ~ N(0, I) drawn anew for
    each example and step -> decoder, logits `[B, h, w, C]`. Loss: the negative evidence lower bound (equation 10) in
    nats, summed over pixels and over latent dimensions, the mean over the batch:
    -log p(x|z) + beta KL(N(mu, variance) || N(0, I)).

    Downstream is mu, not a sample. Held-out losses draw z as well, so they are the bound itself and not that of mu.
    Not in the paper: log variance is clipped to -10..10.
    """

    options: VAEOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: VAEOptions) -> Batch:
        return {"image": resize_and_crop(to_float(batch["image"]), options.size or batch["image"].shape[1])}

    def build_heads(self) -> None:
        read, latent = features(self.backbone), self.options.latent
        outputs = {
            **self.backbone.output,
            "embedding": keras.layers.Dense(latent, name="mean")(read),
            "log_variance": keras.layers.Dense(latent, name="log_variance")(read),
        }
        self.coder = keras.Model(self.backbone.input, outputs, name="coder")
        self.decoder = upconvolutions(
            latent, self.input_size, self.backbone.input_shape[-1], width=self.options.decoder_width, activation=None
        )

    @property
    def encoder(self) -> keras.Model:
        """The backbone with mu, `[B, latent]`, in the place of its embedding."""
        return self.coder

    def forward(self, batch: Batch, training: bool) -> Batch:
        posterior = self.coder(batch["image"], training=training)
        mean, log_variance = posterior["embedding"], tf.clip_by_value(posterior["log_variance"], -10.0, 10.0)
        z = self.sample(mean, log_variance, batch["seed"])
        return {"mean": mean, "log_variance": log_variance, "logits": self.decoder(z, training=training)}

    @staticmethod
    def sample(mean: tf.Tensor, log_variance: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """z = mu + sigma eps, `[B, latent]`: the gradient reaches mu and sigma (the reparametrisation, section 2.4)."""
        noise = tf.cast(normal(fold_in(seed, "z"), mean.shape[1:]), mean.dtype)
        return mean + tf.exp(0.5 * log_variance) * noise

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """The bound and its two parts, in nats for an image, or for each of its values.

        "prior_loss" is what a decoder that ignores z and answers each channel's mean would cost; "active" the share of
        latent dimensions with a KL of at least 0.01, near 0 where the posterior has collapsed.
        """
        logits = outputs["logits"]
        target = tf.cast(batch["image"], logits.dtype)
        kl = kl_divergence(outputs["mean"], outputs["log_variance"])
        reconstruction = tf.reduce_mean(tf.reduce_sum(self.negative_log_likelihood(target, logits), axis=(1, 2, 3)))
        information = tf.reduce_mean(tf.reduce_sum(kl, axis=-1))
        active = replicas.mean(tf.reduce_mean(kl, axis=0)) >= _ACTIVE
        nats = {
            "loss": reconstruction + self.options.beta * information,
            "reconstruction": reconstruction,
            "kl": information,
            "prior_loss": self.prior_loss(target),
        }
        values = 1 if self.options.per == "image" else math.prod(target.shape[1:])
        figures = {name: figure / values for name, figure in nats.items()}
        return {**figures, "active": tf.reduce_mean(tf.cast(active, "float32"))}

    def negative_log_likelihood(self, target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """-log p(x|z) of every value; of a Gaussian of unit variance, without its constant log(2 pi) / 2."""
        if self.options.likelihood == "bernoulli":
            return tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits)
        return 0.5 * tf.square(target - tf.sigmoid(logits))

    def prior_loss(self, target: tf.Tensor) -> tf.Tensor:
        """What answering each channel's mean costs for an image: half its variance, or the entropy of its mean."""
        mean, variance = channel_moments(target)
        pixels = target.shape[1] * target.shape[2]
        if self.options.likelihood == "bernoulli":
            return pixels * tf.reduce_sum(-tf.math.xlogy(mean, mean) - tf.math.xlogy(1.0 - mean, 1.0 - mean))
        return 0.5 * pixels * tf.reduce_sum(variance)

    def decode(self, z: tf.Tensor) -> tf.Tensor:
        """The images, `[B, h, w, C]` in [0, 1], of codes `[B, latent]`; of draws from N(0, I), new ones."""
        return tf.sigmoid(self.decoder(z, training=False))

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray]:
        mean = self.coder(batch["image"], training=False)["embedding"]
        drawn = normal(fold_in(batch["seed"], "prior"), mean.shape[1:])
        shown = {
            "input": batch["image"],
            "reconstruction": self.decode(mean),
            "drawn": self.decode(drawn),
        }
        return {title: tf.cast(image, "float32").numpy() for title, image in shown.items()}


def kl_divergence(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """KL(N(mean, variance) || N(0, 1)) of every dimension, in nats (appendix B)."""
    return 0.5 * (tf.square(mean) + tf.exp(log_variance) - 1.0 - log_variance)
