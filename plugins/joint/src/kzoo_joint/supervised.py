"""Learning from labels alone: what methods that also use unlabelled images are measured against."""

import math

import tensorflow as tf

from kzoo import augment, losses
from kzoo.method import Batch, Group, Logs
from kzoo_joint.options import SupervisedOptions
from kzoo_joint.parts.classifier import Classifier, class_losses, shown

_PARTS = 8  # of the backbone, where parts near the input learn more slowly: an optimizer each


class Supervised(Classifier):
    """Name the class of each labelled image; images without a label take part in batch statistics alone.

    It is also how a trained backbone is fine-tuned: with `init_from`, and `backbone_rate` 0 for a linear head on a
    frozen backbone in inference mode, or `layer_decay` under 1 for slower learning near the input.

    Images `[B, H, W, C]` -> crop and flip `[B, h, w, C]` -> backbone `[B, D]` -> Dense(K) -> cross-entropy, its mean
    over the labelled images of the global batch. Uniform logits give log K. `data.labels.share: 1` fills batches with
    them.
    """

    options: SupervisedOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: SupervisedOptions) -> Batch:
        return {"image": shown(batch["image"], seed, options), "label": batch["label"]}

    def optimizer_groups(self) -> dict[str, Group]:
        """The head, and the backbone in eighths by its layers, each slower than the next; one where all learn alike."""
        rate, decay = self.options.backbone_rate, self.options.layer_decay
        if rate == 1 and decay == 1:
            return super().optimizer_groups()
        groups = {"head": Group(self.class_head.trainable_variables)}
        layers = [layer for layer in self.backbone.layers if layer.trainable_variables]
        parts = 1 if decay == 1 else min(_PARTS, len(layers))
        for part in range(parts if rate else 0):
            mine = layers[len(layers) * part // parts : len(layers) * (part + 1) // parts]
            held = [variable for layer in mine for variable in layer.trainable_variables]
            groups[f"backbone_{part}"] = Group(held, lr_scale=rate * decay ** (parts - 1 - part))
        return groups

    def class_logits(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.class_head(self.embed(inputs, training and self.options.backbone_rate > 0))

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
    def pretext(batch: Batch, seed: tf.Tensor, options: SupervisedOptions) -> Batch:
        turned = augment.rotations4(shown(batch["image"], seed, options))
        return {"image": turned, "label": tf.repeat(batch["label"], 4)}
