"""CMC (Tian, Krishnan, Isola, "Contrastive multiview coding", ECCV 2020)."""

import itertools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, losses, sums
from kzoo.color import RGBToLab, rgb_to_lab
from kzoo.layers import mlp_head
from kzoo.method import Batch, Logs, Method
from kzoo.state import MemoryBank
from kzoo_contrastive.inst_disc import MEAN
from kzoo_contrastive.parts.matches import matches
from kzoo_contrastive.parts.nce import NoiseContrast, compare, drawn_noise
from kzoo_contrastive.specs.cmc import CMCOptions

# L, a and b of sRGB colours lie within a mean plus or minus a width; the authors map that to [-1, 1], this to [0, 1]
_MEANS, _WIDTHS = (50.0, 6.025, -6.6895), (50.0, 92.208, 101.1675)


def lab_view(lab: tf.Tensor, view: str, sigma: float = 1.0, channels: int = 3) -> tf.Tensor:
    """A view of Lab images `[B, h, w, 3]`, scaled to [0, 1]: `[B, h, w, channels]`.

    "l", "a" and "b" come as (l, l, l), or once for one channel; "ab" as (a, b, 0). "low" is the lightness under a
    Gaussian blur of `sigma` pixels, "high" what that takes away.
    """
    scaled = ((lab - tf.constant(_MEANS, lab.dtype)) / tf.constant(_WIDTHS, lab.dtype) + 1.0) / 2.0
    if view == "ab":
        return tf.concat([scaled[..., 1:], tf.zeros_like(scaled[..., :1])], axis=-1)
    if view in ("low", "high"):
        lightness = scaled[..., :1]
        low = _blurred(lightness, sigma)
        one = low if view == "low" else (lightness - low + 1.0) / 2.0
    else:
        one = scaled[..., "lab".index(view), None]
    return tf.repeat(one, channels, axis=-1)


def _blurred(images: tf.Tensor, sigma: float) -> tf.Tensor:
    """Gaussian blur of images `[B, h, w, C]`; at the rim, the mean over what lies inside."""
    for axis in (1, 2):
        place = np.arange(images.shape[axis])
        weights = np.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2)
        weights = tf.constant(weights / weights.sum(axis=1, keepdims=True), images.dtype)
        images = tf.einsum("yY,bYxc->byxc" if axis == 1 else "xX,byXc->byxc", weights, images)
    return images


@keras.saving.register_keras_serializable(package="kzoo_contrastive")
class LabView(keras.layers.Layer):
    """`lab_view` inside a Functional model: Lab images `[B, h, w, 3]` to `[B, h, w, channels]`."""

    def __init__(self, view: str, sigma: float, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.view, self.sigma, self.channels = view, sigma, channels

    def call(self, inputs: Any) -> tf.Tensor:
        return lab_view(tf.convert_to_tensor(inputs), self.view, self.sigma, self.channels)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "view": self.view, "sigma": self.sigma, "channels": self.channels}


class CMC(Method):
    """Views of one scene, as the lightness and the colour of an image, must find each other among other scenes.

    RGB `[B, h, w, 3]` -> Lab -> L and ab. Each view has an encoder, a Dense `[B, 128]` with unit norm, and a memory
    bank. Every view's feature is contrasted with every other view's bank by the noise-contrastive estimation of
    instance discrimination, the same noise for all, each pair with a constant Z of its own, or by the softmax over the
    whole bank; the sum is the loss (equations 3 and 7). Then each bank follows its own view. The views of an image
    share one crop and one flip, and no colour is changed between them: what they have in common is the scene.

    `views` may name any number of them; `graph` says whether all pairs are contrasted or only those with the first
    view. The first view's encoder is the backbone, those of the others are new ones of the same architecture; the paper
    has them half as wide, which is the backbone's `width` to say. All have three input channels: for a first
    convolution (L, L, L) is one channel under the sum of its three kernels, and (a, b, 0) two channels under two of
    them, so the functions that can be learned are those of the paper's 1- and 2-channel encoders.

    Grey images have no colours, but a coarse and a fine half: the views "low" and "high" are the lightness under a
    Gaussian blur and what the blur takes away, the frequency separation of Tian et al., "What makes for good views for
    contrastive learning?", NeurIPS 2020. There each encoder has one channel.

    Downstream goes an encoder of whole images whose outputs are those of all views' encoders, concatenated.

    Memory: each bank takes n x 128 x 4 bytes on every replica, and in each step b x (1 + noise) x 128 x 4 more. An
    image that was not trained on has no entries: there is no held-out loss.
    """

    options: CMCOptions
    has_held_out_loss = False

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: CMCOptions) -> Batch:
        size = options.size or batch["image"].shape[1]
        images = augment.view(batch["image"], seed, size, **options.view.model_dump())
        channels = images.shape[-1]
        lab = rgb_to_lab(tf.repeat(images, 3 // channels, axis=-1))
        return {view: lab_view(lab, view, options.sigma, channels) for view in options.views}

    def build_heads(self) -> None:
        others = self.options.views[1:]
        config = self.backbone.get_config()
        # initialised anew: two equal encoders would see a half each and start with the same features
        new = [type(self.backbone).from_config({**config, "name": f"{self.backbone.name}_{view}"}) for view in others]
        self.encoders = [self.backbone, *new]
        self.projectors = [mlp_head(self.options.projector, name=f"projector_{view}") for view in self.options.views]
        for projector in self.projectors:
            projector.build((None, self.width))
        n, width = self.require_examples(), self.options.projector[-1]
        self.banks = [MemoryBank(n, width, seed=i, name=f"bank_{v}") for i, v in enumerate(self.options.views)]
        numbers = range(len(self.options.views))
        self.pairs = [
            (i, j) for i, j in itertools.permutations(numbers, 2) if self.options.graph == "full" or 0 in (i, j)
        ]
        noise = self.options.noise
        self.noise_contrasts = [
            None if noise is None else NoiseContrast(noise, name=f"noise_contrast_{i}_{j}") for i, j in self.pairs
        ]

        image = keras.Input(self.backbone.input_shape[1:], name="image")
        channels = image.shape[-1]
        rgb = keras.layers.Concatenate(name="rgb")(3 * [image]) if channels == 1 else image
        lab = RGBToLab(name="lab")(rgb)
        outputs = [
            encoder(LabView(view, self.options.sigma, channels, name=view)(lab))
            for view, encoder in zip(self.options.views, self.encoders, strict=True)
        ]
        joined = {key: keras.layers.Concatenate(name=key)([each[key] for each in outputs]) for key in outputs[0]}
        self._encoder = keras.Model(image, joined, name="cmc_encoder")

    @property
    def encoder(self) -> keras.Model:
        """Images in [0, 1] to the outputs of all views' encoders, concatenated along their last axis."""
        return self._encoder

    def forward(self, batch: Batch, training: bool) -> Batch:
        """The unit-norm feature `[b, 128]` of each view."""
        return {
            view: losses.l2_normalize(
                projector(encoder(batch[view], training=training)["embedding"], training=training)
            )
            for view, encoder, projector in zip(self.options.views, self.encoders, self.projectors, strict=True)
        }

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """The sum over the pairs: with two views 18.6358 for 4,096 noise entries, all P = 1 / n, or 2 log n without."""
        features = [outputs[view] for view in self.options.views]
        own, drawn = batch["id"], drawn_noise(batch, self.options.noise, self.banks[0].size)  # the same for all pairs
        found = [
            compare(features[i], self.banks[j], own, drawn, noise_contrast, self.options.temperature)
            for (i, j), noise_contrast in zip(self.pairs, self.noise_contrasts, strict=True)
        ]
        accuracy = sums.total([accuracy for _, accuracy, _ in found]) / len(found)
        means = {f"{MEAN}_{number}": mean for number, (_, _, mean) in enumerate(found)}
        return {"loss": sums.total([loss for loss, _, _ in found]), "accuracy": accuracy, **means}

    def train_step(self, batch: Batch) -> Logs:
        logs = self.minimise(batch)
        for number, noise_contrast in enumerate(self.noise_contrasts):
            mean = logs.pop(f"{MEAN}_{number}")
            if noise_contrast:
                noise_contrast.keep(mean)
        for view, bank in zip(self.options.views, self.banks, strict=True):
            bank.blend(batch["id"], logs.outputs[view], self.options.momentum)
        return logs

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """Which second view of the batch is most like each first view."""
        outputs = self.forward(batch, training=False)
        first, second = self.options.views[:2]
        return matches((first, batch[first], outputs[first]), (second, batch[second], outputs[second]))
