"""Colorization (Zhang, Isola, Efros, "Colorful image colorization", ECCV 2016)."""

import keras
import numpy as np
import tensorflow as tf

from kzoo import replicas
from kzoo.augment import crop, draw_crops, draw_flips
from kzoo.color import RGBToLab, lab_to_rgb, rgb_to_lab
from kzoo.data import to_float
from kzoo.layers import BatchNormalization
from kzoo.method import Batch, Logs, Method, Signature
from kzoo_generative.color_bins import BINS, rebalancing
from kzoo_generative.options import ColorizationOptions

_SIGMA = 5.0  # of the soft encoding (section 2.1)
_TEMPERATURE = 0.38  # of the annealed mean (section 2.3)
_COLOURLESS = 5.0  # an image with no |a| or |b| above it teaches nothing (authors' code)


class Colorization(Method):
    """Tell the colours of a photograph from its lightness.

    A random square crop in CIE Lab: L / 100, three times, `[B, h, w, 3]` -> backbone's "map" -> convolutions ->
    313 logits for each place, one for each colour of `color_bins.BINS`, resized to the target's places. The target is
    the (a, b) of every `stride`-th pixel, softly encoded: its `neighbours` nearest colours, weighted by a Gaussian of
    sigma 5, in sum 1 (section 2.1).

    Loss: the mean over places of v times the cross-entropy in nats (equation 2). v makes rare colours count more
    (equation 4): 1 / ((1 - `rebalance`) p + `rebalance` / 313) of the nearest colour, p how frequent it is in
    photographs, scaled so that sum p w = 1. Images without colour have v = 0. The reference code scales the gradient
    in this way, and prints the loss without.

    Downstream is the backbone on L, the conversion from RGB in front of it. Deviations: p is measured on the seven
    photographs of everyday scenes that scikit-image and scikit-learn carry, not on ImageNet; the head is that of the
    authors' AlexNet (fc6 to fc8 as convolutions) on any backbone.
    """

    options: ColorizationOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: ColorizationOptions) -> Batch:
        height, width = batch["image"].shape[1:3]
        boxes = draw_crops(seed, height, width, options.scale, (1.0, 1.0))
        view = crop(batch["image"], boxes, draw_flips(seed, options.flip), options.size or height)
        lab = rgb_to_lab(view)
        targets = lab[:, :: options.stride, :: options.stride, 1:]
        return {"lightness": lab[..., :1] / 100.0, "ab": tf.reshape(targets, [-1, np.prod(targets.shape[1:3]), 2])}

    def build_heads(self) -> None:
        options = self.options
        head = [keras.Input(self.backbone.output["map"].shape[1:])]
        for level, filters in enumerate(options.head, start=6):
            kernel, dilation = (options.head_kernel, options.head_dilation) if level == 6 else (1, 1)
            head += [
                keras.layers.Conv2D(
                    filters, kernel, padding="same", dilation_rate=dilation, use_bias=False, name=f"fc{level}"
                ),
                BatchNormalization(name=f"norm_{level}"),
                keras.layers.ReLU(name=f"relu_{level}"),
            ]
        self.head = keras.Sequential([*head, keras.layers.Conv2D(len(BINS), 1, name="colours")], name="head")
        image = keras.Input(self.backbone.input_shape[1:], name="image")
        lightness = RGBToLab(name="lab")(image)[..., :1] / 100.0
        outputs = self.backbone(keras.layers.Concatenate(name="lightness")([lightness] * 3))
        self.on_lightness = keras.Model(image, outputs, name="backbone_on_lightness")
        self.weights_of_bins = rebalancing(options.rebalance)

    @property
    def encoder(self) -> keras.Model:
        """The backbone on the lightness of RGB images."""
        return self.on_lightness

    def forward(self, batch: Batch, training: bool) -> Batch:
        maps = self.backbone(tf.repeat(batch["lightness"], 3, axis=-1), training=training)["map"]
        return {"logits": self.head(maps, training=training)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """The rebalanced cross-entropy; "marginal_loss" is the least that any constant answer would cost this batch.

        "cross_entropy" is without rebalancing; all logits equal: log 313. "accuracy": the nearest colour comes first.
        """
        side = -(-batch["lightness"].shape[1] // self.options.stride)
        logits = tf.reshape(_resize(outputs["logits"], side), [-1, side * side, len(BINS)])
        bins, share = soft_encode(tf.cast(batch["ab"], logits.dtype), self.options.neighbours)
        cross_entropy = -tf.reduce_sum(share * tf.gather(tf.nn.log_softmax(logits), bins, batch_dims=2), axis=-1)
        weight = self.weight(batch["ab"], bins, logits.dtype)
        hits = tf.equal(tf.argmax(logits, -1, output_type=tf.int32), bins[..., 0])
        return {
            "loss": tf.reduce_mean(weight * cross_entropy),
            "marginal_loss": _marginal_loss(weight, bins, share),
            "cross_entropy": tf.reduce_mean(cross_entropy),
            "accuracy": tf.reduce_mean(tf.cast(hits, "float32")),
        }

    def weight(self, ab: tf.Tensor, bins: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """v of every place, `[B, P]`: the weight of its nearest colour, 0 in images without colour."""
        colourful = tf.reduce_any(tf.abs(ab) > _COLOURLESS, axis=(1, 2))
        weight = tf.gather(tf.constant(self.weights_of_bins, dtype), bins[..., 0])
        return tf.where(colourful[:, None], weight, 0)

    def chance(self) -> dict[str, float]:
        """Where all 313 colours are equally likely."""
        return {"cross_entropy": float(np.log(len(BINS)))}

    def colorize(self, images: tf.Tensor) -> tf.Tensor:
        """The colours the network gives to the lightness of images (uint8, or float in [0, 1]), `[B, h, w, 3]`.

        The annealed mean (equation 5), resized to the image's places; RGB in [0, 1].
        """
        lightness = rgb_to_lab(to_float(images))[..., :1]
        logits = self.forward({"lightness": lightness / 100.0}, training=False)["logits"]
        ab = _resize(annealed_mean(tf.cast(logits, lightness.dtype)), images.shape[1])
        return lab_to_rgb(tf.concat([lightness, ab], axis=-1))

    def signatures(self) -> dict[str, Signature]:
        return {"colorize": lambda images: {"image": self.colorize(images)}}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray]:
        lightness = 100.0 * tf.cast(batch["lightness"], "float32")
        logits = self.forward(batch, training=False)["logits"]
        ab = _resize(annealed_mean(tf.cast(logits, "float32")), lightness.shape[1])
        side = -(-lightness.shape[1] // self.options.stride)
        truth = _resize(tf.reshape(batch["ab"], [-1, side, side, 2]), lightness.shape[1])
        shown = {"seen": tf.zeros_like(ab), "colorized": ab, "the target": tf.cast(truth, "float32")}
        return {
            title: np.asarray(lab_to_rgb(tf.concat([lightness, colours], axis=-1))) for title, colours in shown.items()
        }


def soft_encode(ab: tf.Tensor, neighbours: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The nearest colours of each (a, b), `[..., 2]`, and their shares, in sum 1: both `[..., neighbours]`.

    Nearest first; shares fall with the distance as a Gaussian of sigma 5.
    """
    colours = tf.constant(BINS, ab.dtype)
    distances = tf.reduce_sum(tf.square(ab[..., None, :] - colours), axis=-1)
    nearest, bins = tf.math.top_k(-distances, neighbours)
    return bins, tf.nn.softmax(nearest / (2.0 * _SIGMA**2))


def annealed_mean(logits: tf.Tensor) -> tf.Tensor:
    """The (a, b), `[..., 2]`, of 313 logits: the mean of their distribution sharpened by T = 0.38 (equation 5)."""
    return tf.tensordot(tf.nn.softmax(logits / _TEMPERATURE), tf.constant(BINS, logits.dtype), 1)


def _marginal_loss(weight: tf.Tensor, bins: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """The loss of the best constant answer q: for sum v Z it is q = m / sum m, and costs -sum m log q."""
    mass = tf.reshape(weight[..., None] * share, [-1])
    mass = tf.math.unsorted_segment_sum(mass, tf.reshape(bins, [-1]), len(BINS))
    mass = replicas.mean(mass / tf.cast(tf.size(weight), mass.dtype))
    return -tf.reduce_sum(tf.math.xlogy(mass, tf.math.divide_no_nan(mass, tf.reduce_sum(mass))))


def _resize(maps: tf.Tensor, side: int) -> tf.Tensor:
    """Maps `[B, h, w, D]` at `side` x `side` places, bilinear, in their own dtype."""
    # TensorFlow gives float32 in any case; of float64, XLA's gradient would mix the two and not compile
    return tf.cast(tf.image.resize(tf.cast(maps, tf.float32), (side, side)), maps.dtype)
