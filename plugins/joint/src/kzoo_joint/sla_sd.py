"""SLA with self-distillation (Lee, Hwang, Shin, ICML 2020): what many versions say together, one head learns to say."""

import math

import tensorflow as tf

from kzoo import losses
from kzoo.method import Batch, Logs
from kzoo_joint.options import SLASDOptions
from kzoo_joint.parts.classifier import class_losses, head
from kzoo_joint.sla import SLA, aggregate


class SLASD(SLA):
    """SLA, and beside it a head that sees an image as it is and imitates the mean over its versions.

    As `sla`: all M versions of each image -> backbone z `[M B, D]` -> Dense(K M), whose mean over the versions is
    s `[B, K]`. The z of version 0 alone -> a second Dense(K), u `[B, K]`.

    Loss, over the labelled images of the global batch: cross-entropy of class and version together, mean over the
    versions (`summed`: times M) + `beta` times the cross-entropy of softmax(u) with the class
    + T² KL(softmax(sg(s) / T) || softmax(u / T)), T the `temperature`. The last sends no gradient into s. Uniform
    logits give log(K M) + `beta` log K. Inference: u, in one forward pass.
    """

    options: SLASDOptions

    def build_heads(self) -> None:
        super().build_heads()
        self.single_head = head(self.width, len(self.require_classes()), "classes")

    def forward(self, batch: Batch, training: bool) -> Batch:
        embedding = self.embed(batch["image"], training)
        return {"joint": self.joint_head(embedding), "single": self.single_head(embedding[:: self.versions])}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """ "accuracy" is that of the single head; "distillation" the divergence."""
        options, single = self.options, outputs["single"]
        joint = super().loss(outputs, batch)["loss"]
        entropies, hits, labelled = class_losses(single, batch["label"][:: self.versions])
        taught = tf.stop_gradient(aggregate(outputs["joint"], self.versions))
        divergence = losses.mean_of(imitation(taught, single, options.temperature), labelled)
        return {
            "loss": joint + options.beta * losses.mean_of(entropies, labelled) + divergence,
            "joint_loss": joint,
            "distillation": divergence,
            "accuracy": losses.mean_of(hits, labelled),
        }

    def chance(self) -> dict[str, float]:
        joint, classes = super().chance()["loss"], len(self.require_classes())
        return {"loss": joint + self.options.beta * math.log(classes), "joint_loss": joint, "accuracy": 1 / classes}

    def class_logits(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.single(inputs, training)

    def single(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.single_head(self.embed(images, training))


def imitation(taught: tf.Tensor, said: tf.Tensor, temperature: float) -> tf.Tensor:
    """T² KL(softmax(taught / T) || softmax(said / T)) of each row of logits, `[B]`."""
    log_p, log_q = (tf.nn.log_softmax(logits / temperature) for logits in (taught, said))
    return temperature**2 * tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=1)
