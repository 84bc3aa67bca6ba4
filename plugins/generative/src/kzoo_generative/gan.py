"""DCGAN (Radford, Metz, Chintala, ICLR 2016), a generative adversarial network (Goodfellow et al., NeurIPS 2014)."""

import keras
import numpy as np
import tensorflow as tf

from kzoo.data import Source, evaluation_batches, resize_and_crop, to_float
from kzoo.method import Batch, Group, Logs, Method
from kzoo.random import fold_in, uniform
from kzoo_generative.adversarial import discriminator_loss, generator_loss, statistics_kept, told_apart
from kzoo_generative.networks import DCGAN_DEVIATION, features, normal, upconvolutions
from kzoo_generative.options import GANOptions

_SAMPLES = 64  # whose distances `extra_metrics` compares


class GAN(Method):
    """A discriminator learns to tell real images from those of a generator, which learns to be taken for real.

    The backbone is the discriminator D: images `[B, h, w, C]` -> its last map, flattened (the embedding, where it has
    no map) -> Dense, one logit. The generator G: z `[B, latent]`, uniform in -1..1 -> Dense -> transposed convolutions
    -> tanh, scaled to [0, 1]. One step of D, then one of G, each with an optimizer of its own; real and generated
    images pass D apart, so that each batch is normalised by its own statistics.

    Downstream is what the paper classifies with: every feature map of D, max-pooled to a grid of 4x4, all side by side
    (section 5.1). Its moving statistics are those of real images alone, where common code mixes in generated ones.
    Deviation: G starts from the smallest square that doubling leads to the image's size from, and is then cropped.
    """

    options: GANOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: GANOptions) -> Batch:
        return {"image": resize_and_crop(to_float(batch["image"]), options.size or batch["image"].shape[1])}

    def build_heads(self) -> None:
        logit = keras.layers.Dense(1, kernel_initializer=normal(DCGAN_DEVIATION), name="logit")
        self.discriminator = keras.Model(self.backbone.input, logit(features(self.backbone)), name="discriminator")
        self.generator = upconvolutions(
            self.options.latent,
            self.input_size,
            self.backbone.input_shape[-1],
            width=self.options.generator_width,
            kernel=5,
            activation="tanh",
            deviation=DCGAN_DEVIATION,
            name="generator",
        )
        self.representation = _pooled_maps(self.backbone, self.options.grid)

    @property
    def encoder(self) -> keras.Model:
        """The discriminator's maps, each max-pooled to a grid, concatenated."""
        return self.representation

    def optimizer_groups(self) -> dict[str, Group]:
        return {
            "discriminator": Group(self.discriminator.trainable_variables),
            "generator": Group(self.generator.trainable_variables),
        }

    def train_step(self, batch: Batch) -> Logs:
        of_discriminator = self.minimise(batch, loss=self.discriminator_step_loss, groups="discriminator")
        of_generator = self.minimise(batch, loss=self.generator_step_loss, groups="generator")
        return {**of_discriminator, **of_generator, "loss": of_discriminator["loss"] + of_generator["loss"]}

    def discriminator_step_loss(self, batch: Batch) -> Logs:
        """The discriminator's loss; changes nothing in the generator."""
        real = self.discriminator(batch["image"], training=True)
        with statistics_kept(self.generator, self.backbone):
            fake = self.discriminator(tf.stop_gradient(self.generate(batch["seed"], training=True)), training=True)
        loss = discriminator_loss(real, fake)
        return {"loss": loss, "discriminator_loss": loss, "accuracy": told_apart(real, fake)}

    def generator_step_loss(self, batch: Batch) -> Logs:
        """The generator's loss; changes nothing in the discriminator."""
        image = self.generate(batch["seed"], training=True)
        with statistics_kept(self.backbone):
            loss = generator_loss(self.discriminator(image, training=True))
        return {"loss": loss, "generator_loss": loss}

    def generate(self, seed: tf.Tensor, training: bool = False) -> tf.Tensor:
        """An image for each key: `[B, h, w, C]` in [0, 1], of keys int64 `[B]`."""
        z = uniform(fold_in(seed, "z"), (self.options.latent,), -1.0, 1.0)
        return 0.5 + 0.5 * self.generator(z, training=training)

    def forward(self, batch: Batch, training: bool) -> Batch:
        image = self.generate(batch["seed"], training)
        return {
            "real": self.discriminator(batch["image"], training=training),
            "fake": self.discriminator(image, training=training),
        }

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """Both losses and their sum; "accuracy" is the discriminator's. Only held-out figures come from here."""
        of_discriminator = discriminator_loss(outputs["real"], outputs["fake"])
        of_generator = generator_loss(outputs["fake"])
        return {
            "loss": of_discriminator + of_generator,
            "discriminator_loss": of_discriminator,
            "accuracy": told_apart(outputs["real"], outputs["fake"]),
            "generator_loss": of_generator,
        }

    def chance(self) -> dict[str, float]:
        """Where the discriminator always answers 1/2."""
        half = float(np.log(2.0))
        return {"loss": 3 * half, "discriminator_loss": 2 * half, "generator_loss": half, "accuracy": 0.5}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        real = tf.sigmoid(self.discriminator(batch["image"], training=False))[:, 0]
        columns: dict[str, np.ndarray | list[str]] = {
            "real": tf.cast(batch["image"], "float32").numpy(),
            "taken for real": [f"{probability:.0%}" for probability in tf.cast(real, "float32").numpy()],
        }
        for number in range(1, 4):
            image = self.generate(fold_in(batch["seed"], number))
            columns[f"generated {number}"] = tf.cast(image, "float32").numpy()
        return columns

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """How much 64 generated images differ from each other, as a share of how much 64 real ones do.

        The mean distance of all pairs. Under 0.1 the generator has collapsed to a few images.
        """
        every = max(1, train.size // _SAMPLES)
        of_all = evaluation_batches(train, 256, self.input_size)
        real = np.concatenate([batch["image"][batch["id"] % every == 0] for batch in of_all])[:_SAMPLES]
        fake = tf.cast(self.generate(tf.range(len(real), dtype=tf.int64)), "float32").numpy()
        return {"diversity": mean_distance(fake) / mean_distance(real)}


def mean_distance(images: np.ndarray) -> float:
    """The mean Euclidean distance over all pairs of different images `[n, ...]`."""
    flat = images.reshape(len(images), -1).astype("float64")
    squares = np.sum(flat**2, axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * flat @ flat.T, 0.0))
    return float(distances.sum() / (len(flat) * (len(flat) - 1)))


def _pooled_maps(backbone: keras.Model, grid: int) -> keras.Model:
    """The backbone, its embedding replaced by all maps side by side, each max-pooled to at most `grid` x `grid`."""
    outputs = backbone.output
    pooled = []
    for name in sorted(name for name in outputs if name.startswith("map")):
        height, width = outputs[name].shape[1:3]
        if height is None or width is None:
            pooled.append(keras.layers.GlobalMaxPooling2D(name=f"pool_{name}")(outputs[name]))
            continue
        steps = (-(-height // grid), -(-width // grid))
        cells = keras.layers.MaxPooling2D(steps, steps, "same", name=f"pool_{name}")(outputs[name])
        pooled.append(keras.layers.Flatten(name=f"flat_{name}")(cells))
    if not pooled:
        return backbone
    embedding = pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(name="side_by_side")(pooled)
    return keras.Model(backbone.input, {**outputs, "embedding": embedding}, name="representation")
