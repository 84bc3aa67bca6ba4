"""NewMethod, as generated: a small SimCLR (Chen et al. 2020). Put your own paper's pretext, heads and loss here."""

import tensorflow as tf

import kzoo
from kzoo import augment, losses
from kzoo.layers import mlp_head
from kzoo.method import Batch, Logs
from kzoo.random import fold_in
from kzoo_newmethod.options import NewMethodOptions


class NewMethod(kzoo.Method):
    """Two views of an image must find each other among all views of the batch.

    Views `[B, h, w, C]` -> backbone `[B, D]` -> projector `[B, 64]` -> NT-Xent over the global batch.
    """

    options: NewMethodOptions
    least_examples = 2  # the record says so too: a batch of 1 has no other views

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: NewMethodOptions) -> Batch:
        """Two views of each image, float32 `[B, h, w, C]` in [0, 1]. All randomness comes from `seed`, `[B]`."""
        size = options.size or batch["image"].shape[1]
        view = options.view.model_dump()
        return {
            "view_0": augment.view(batch["image"], fold_in(seed, "view_0"), size, **view),
            "view_1": augment.view(batch["image"], fold_in(seed, "view_1"), size, **view),
        }

    def build_heads(self) -> None:
        """The projector, which is dropped after training."""
        self.projector = mlp_head(self.options.projector, name="projector")
        self.projector.build((None, self.width))

    def forward(self, batch: Batch, training: bool) -> Batch:
        """Projections of both views, `[B, d]`, in one pass, so that batch normalisation sees them together."""
        both = tf.concat([batch["view_0"], batch["view_1"]], axis=0)
        z_0, z_1 = tf.split(self.projector(self.embed(both, training), training=training), 2)
        return {"z_0": z_0, "z_1": z_1}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """NT-Xent (equation 1), the mean over this replica's examples."""
        logits_0, logits_1, labels = losses.nt_xent_logits(outputs["z_0"], outputs["z_1"], self.options.temperature)
        loss = (losses.cross_entropy(logits_0, labels) + losses.cross_entropy(logits_1, labels)) / 2
        return {"loss": loss, "accuracy": losses.accuracy(logits_0, labels)}
