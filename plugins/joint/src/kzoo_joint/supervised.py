"""Learning from labels alone: what methods that also use unlabelled images are measured against."""

import math

import tensorflow as tf

from kzoo import augment, losses
from kzoo.method import Batch, Logs
from kzoo_joint.options import ClassifierOptions
from kzoo_joint.parts.classifier import Classifier, class_losses, shown


class Supervised(Classifier):
    """Name the class of each labelled image; images without a label take part in batch statistics alone.

    Images `[B, H, W, C]` -> crop and flip `[B, h, w, C]` -> backbone `[B, D]` -> Dense(K) -> cross-entropy, its mean
    over the labelled images of the global batch. Uniform logits give log K. `data.labels.share: 1` fills batches with
    them.
    """

    options: ClassifierOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: ClassifierOptions) -> Batch:
        return {"image": shown(batch["image"], seed, options), "label": batch["label"]}

    def forward(self, batch: Batch, training: bool) -> Batch:
        return {"classes": self.class_logits(batch["image"], training)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        entropies, hits, labelled = class_losses(outputs["classes"], batch["label"])
        return {"loss": losses.mean_of(entropies, labelled), "accuracy": losses.mean_of(hits, labelled)}

    def chance(self) -> dict[str, float]:
        classes = len(self.require_classes())
        return {"loss": math.log(classes), "accuracy": 1 / classes}


class SupervisedRotation(Supervised):
    """The same, each image in its four turns, all of its class: rotation as augmentation, the baseline "DA" of SLA's
    authors. What S4L-Rotation is without its loss of the turns.

    `[4B, h, w, C]`, those of an image together -> backbone -> Dense(K) -> mean cross-entropy over the 4 turns of the
    labelled images.
    """

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: ClassifierOptions) -> Batch:
        turned = augment.rotations4(shown(batch["image"], seed, options))
        return {"image": turned, "label": tf.repeat(batch["label"], 4)}
