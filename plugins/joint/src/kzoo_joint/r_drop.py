"""R-Drop (Liang, Wu, Li, Wang, Meng, Qin, Chen, Zhang, Liu, "R-Drop: regularized dropout for neural networks",
NeurIPS 2021).
"""

import math

import tensorflow as tf

from kzoo import losses
from kzoo.errors import OptionsError
from kzoo.layers import Dropout, every_layer
from kzoo.method import Batch, Logs
from kzoo_joint.options import RDropOptions, RDropTextOptions
from kzoo_joint.parts.classifier import Classifier, class_losses, shown


class RDrop(Classifier):
    """Each image passes the network twice; what dropout left out differs; both answers must agree.

    Images `[B, H, W, C]` -> crop and flip, once -> each twice `[2B, h, w, C]`, copies together -> backbone -> dropout
    -> Dense(K), logits of p and q, `[B, K]` each.

    Loss, over the labelled images of the global batch: the mean of both cross-entropies, plus `alpha` times
    (KL(p || q) + KL(q || p)) / 2, both with gradient. Uniform logits give log K; without dropout the divergence is 0.
    Inference: one pass without dropout.

    Deviation: dropout before the head as well, for backbones that have none; `dropout: 0` leaves it to the backbone.
    """

    options: RDropOptions
    key = "image"

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: RDropOptions) -> Batch:
        return {"image": shown(batch["image"], seed, options), "label": batch["label"]}

    def build_heads(self) -> None:
        super().build_heads()
        rates = [layer.rate for layer in every_layer(self.backbone) if isinstance(layer, Dropout)]
        if not self.options.dropout and not any(rates):
            raise OptionsError(
                [
                    f"{self.name}: without dropout both answers would be one; set method.options.dropout above 0, or "
                    f"give {self.backbone.name} some"
                ]
            )
        self.dropout = Dropout(self.options.dropout, name="before_classes")

    def class_logits(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.class_head(self.dropout(self.embed(inputs, training), training=training))

    def forward(self, batch: Batch, training: bool) -> Batch:
        logits = self.class_logits(tf.repeat(batch[self.key], 2, axis=0), training)
        return {"first": logits[::2], "second": logits[1::2]}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        (one, hits, labelled), (two, other_hits, _) = (
            class_losses(outputs[copy], batch["label"]) for copy in ("first", "second")
        )
        class_loss = losses.mean_of((one + two) / 2, labelled)
        divergence = losses.mean_of(disagreement(outputs["first"], outputs["second"]), labelled)
        return {
            "loss": class_loss + self.options.alpha * divergence,
            "class_loss": class_loss,
            "divergence": divergence,
            "accuracy": losses.mean_of((hits + other_hits) / 2, labelled),
        }

    def chance(self) -> dict[str, float]:
        classes = len(self.require_classes())
        return {"loss": math.log(classes), "class_loss": math.log(classes), "accuracy": 1 / classes}


class RDropText(RDrop):
    """The same of passages: tokens `[B, T]`, each twice."""

    options: RDropTextOptions
    key = "tokens"

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: RDropTextOptions) -> Batch:
        return {"tokens": batch["tokens"], "label": batch["label"]}


def disagreement(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """(KL(p || q) + KL(q || p)) / 2 of two rows of logits, `[B]`: half the sum of (p - q)(log p - log q)."""
    log_p, log_q = tf.nn.log_softmax(first), tf.nn.log_softmax(second)
    return tf.reduce_sum((tf.exp(log_p) - tf.exp(log_q)) * (log_p - log_q), axis=1) / 2
