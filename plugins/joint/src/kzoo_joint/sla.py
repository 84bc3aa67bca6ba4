"""SLA (Lee, Hwang, Shin, "Self-supervised label augmentation via input transformations", ICML 2020)."""

import math
from collections.abc import Callable
from itertools import permutations

import tensorflow as tf

from kzoo import augment, losses
from kzoo.method import Batch, Logs
from kzoo_joint.options import SLAOptions
from kzoo_joint.parts.classifier import Classifier, class_losses, head, shown

_ORDERS = tuple(permutations(range(3)))  # of the colour channels; the first changes nothing


class SLA(Classifier):
    """One softmax names class and version of an image together, so that no version has to look like another.

    Images `[B, H, W, C]` -> crop and flip -> all M `versions` of each `[M B, h, w, C]`, those of an image together:
    4 turns, 6 orders of the colours, or both, 24 -> backbone `[M B, D]` -> Dense(K M). The label of version t of an
    image of class c is c M + t.

    Loss: the mean cross-entropy over the versions of the labelled images of the global batch; `summed`: M times that.
    Uniform logits give log(K M).

    Inference: the logit of class c is the mean over t of version t's logit of (c, t); or, without `aggregate`, the
    image's own of (c, 0).
    """

    options: SLAOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: SLAOptions) -> Batch:
        images = versions_of(shown(batch["image"], seed, options), options.versions)
        count = count_of(options.versions)
        return {
            "image": images,
            "version": tf.tile(tf.range(count, dtype=batch["label"].dtype), tf.shape(batch["label"])),
            "label": tf.repeat(batch["label"], count),
        }

    def build_heads(self) -> None:
        self.versions = count_of(self.options.versions)
        self.joint_head = head(self.width, len(self.require_classes()) * self.versions, "classes_and_versions")

    def forward(self, batch: Batch, training: bool) -> Batch:
        return {"joint": self.joint_head(self.embed(batch["image"], training))}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """ "accuracy" is how often class and version are both named."""
        joint = joint_labels(batch["label"], batch["version"], self.versions)
        entropies, hits, labelled = class_losses(outputs["joint"], joint)
        loss = losses.mean_of(entropies, labelled) * (self.versions if self.options.summed else 1)
        return {"loss": loss, "accuracy": losses.mean_of(hits, labelled)}

    def chance(self) -> dict[str, float]:
        labels = len(self.require_classes()) * self.versions
        return {"loss": math.log(labels) * (self.versions if self.options.summed else 1), "accuracy": 1 / labels}

    def class_logits(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.aggregated(inputs, training) if self.options.aggregate else self.single(inputs, training)

    def aggregated(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The mean over the versions of an image of their logits of (class, own version), `[B, K]`."""
        versions = versions_of(images, self.options.versions)
        return aggregate(self.joint_head(self.embed(versions, training)), self.versions)

    def single(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The image's own logits of (class, version 0), `[B, K]`."""
        return self.joint_head(self.embed(images, training))[:, :: self.versions]

    def answers(self) -> dict[str, Callable[[tf.Tensor], tf.Tensor]]:
        return {**super().answers(), "test_accuracy_aggregated": self.aggregated, "test_accuracy_single": self.single}


def count_of(versions: str) -> int:
    """How many versions of an image there are, M."""
    return {"none": 1, "turns": 4, "colours": len(_ORDERS), "both": 4 * len(_ORDERS)}[versions]


def versions_of(images: tf.Tensor, versions: str) -> tf.Tensor:
    """All versions of each image `[M B, h, w, C]`, version t of image i at i M + t; the first is the image itself."""
    if versions in ("turns", "both"):
        images = augment.rotations4(images)
    if versions in ("colours", "both"):
        orders = tf.stack([tf.gather(images, order, axis=3) for order in _ORDERS], axis=1)
        images = tf.reshape(orders, tf.concat([[-1], tf.shape(images)[1:]], axis=0))
    return images


def joint_labels(labels: tf.Tensor, versions: tf.Tensor, count: int) -> tf.Tensor:
    """c M + t, and -1 where there is no class."""
    return tf.where(labels >= 0, labels * count + versions, -1)


def aggregate(logits: tf.Tensor, count: int) -> tf.Tensor:
    """s_c = (1 / M) sum_t of version t's logit of (c, t): `[M B, K M]` to `[B, K]`."""
    by_version = tf.reshape(logits, [-1, count, logits.shape[1] // count, count])
    own = tf.eye(count, dtype=logits.dtype)[:, None]
    return tf.reduce_sum(by_version * own, axis=(1, 3)) / count
