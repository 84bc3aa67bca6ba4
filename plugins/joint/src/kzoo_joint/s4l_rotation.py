"""S4L-Rotation (Zhai, Oliver, Kolesnikov, Beyer, "S4L: self-supervised semi-supervised learning", ICCV 2019)."""

import math
from collections.abc import Callable

import tensorflow as tf

from kzoo import augment, losses
from kzoo.method import Batch, Logs
from kzoo_joint.options import S4LRotationOptions
from kzoo_joint.parts.classifier import Classifier, class_losses, head, mean_of_both, shown


class S4LRotation(Classifier):
    """Every image, labelled or not, is told by how much it was turned; a labelled one also of what class it is.

    Images `[B, H, W, C]` -> crop and flip -> four turns `[4B, h, w, C]`, those of an image together -> backbone
    `[4B, D]` -> two linear layers: classes `[4B, K]` and turns `[4B, 4]`.

    Loss: the mean cross-entropy of the classes over the four turns of the labelled images, plus `weight` times the mean
    of two means: the cross-entropy of the turns over the labelled images, and over the others. Uniform logits give
    log K + log 4. All means are of the global batch. The paper's batches are half labelled: `data.labels.share: 0.5`;
    what is drawn as unlabelled may be a labelled image too, whose label is then not used, as in the authors' code.

    A class is named from the image as it is; "test_accuracy_4_turns" is that of the mean of the logits of its turns.
    """

    options: S4LRotationOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: S4LRotationOptions) -> Batch:
        images = shown(batch["image"], seed, options)
        return {
            "image": augment.rotations4(images),
            "turn": tf.tile(tf.range(4), [tf.shape(images)[0]]),
            "label": tf.repeat(batch["label"], 4),
        }

    def build_heads(self) -> None:
        super().build_heads()
        self.turn_head = head(self.width, 4, "turns")

    def forward(self, batch: Batch, training: bool) -> Batch:
        embedding = self.embed(batch["image"], training)
        return {"classes": self.class_head(embedding), "turns": self.turn_head(embedding)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """ "accuracy" is of the classes, "turn_accuracy" of the turns."""
        entropies, hits, labelled = class_losses(outputs["classes"], batch["label"])
        class_loss = losses.mean_of(entropies, labelled)
        turn_entropies, turn_hits, _ = class_losses(outputs["turns"], batch["turn"])
        turn_loss = mean_of_both(turn_entropies, labelled)
        return {
            "loss": class_loss + self.options.weight * turn_loss,
            "class_loss": class_loss,
            "turn_loss": turn_loss,
            "accuracy": losses.mean_of(hits, labelled),
            "turn_accuracy": tf.reduce_mean(turn_hits),
        }

    def chance(self) -> dict[str, float]:
        classes = len(self.require_classes())
        return {
            "loss": math.log(classes) + self.options.weight * math.log(4),
            "class_loss": math.log(classes),
            "turn_loss": math.log(4),
            "accuracy": 1 / classes,
            "turn_accuracy": 1 / 4,
        }

    def answers(self) -> dict[str, Callable[[tf.Tensor], tf.Tensor]]:
        return {**super().answers(), "test_accuracy_4_turns": self.mean_of_turns}

    def mean_of_turns(self, images: tf.Tensor) -> tf.Tensor:
        """The mean of the logits of an image's four turns, `[B, K]`."""
        logits = self.class_logits(augment.rotations4(images))
        return tf.reduce_mean(tf.reshape(logits, [-1, 4, logits.shape[1]]), axis=1)
