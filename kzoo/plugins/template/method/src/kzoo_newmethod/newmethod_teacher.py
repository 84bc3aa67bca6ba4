"""NewMethodTeacher, a second method of this distribution: a teacher, and a `train_step` of its own."""

import tensorflow as tf

from kzoo import losses, replicas
from kzoo.layers import mlp_head
from kzoo.method import Batch, Logs
from kzoo.state import EMATeacher
from kzoo_newmethod.newmethod import NewMethod
from kzoo_newmethod.options import NewMethodTeacherOptions


class NewMethodTeacher(NewMethod):
    """A prediction from one view must find what a slow teacher says of the other, among all that it says of the batch.

    Views `[B, h, w, C]` -> backbone -> projector -> predictor `[B, 64]`; teacher: a copy of backbone and projector that
    follows them. One direction of MoCo v3 (Chen, Xie, He 2021, algorithm 1).
    """

    options: NewMethodTeacherOptions

    def build_heads(self) -> None:
        """Projector, predictor and teacher. The teacher gets no gradient, and is saved with the run."""
        super().build_heads()
        width = self.options.projector[-1]
        self.predictor = mlp_head((width, width), name="predictor")
        self.predictor.build((None, width))
        self.teacher = EMATeacher([self.backbone, self.projector])

    def train_step(self, batch: Batch) -> Logs:
        """What one step does, in the paper's order: the teacher follows and answers, then the student learns."""
        self.teacher.update(self.value(self.options.momentum))
        return self.minimise({**batch, "keys": self.keys(batch, training=True)})

    def keys(self, batch: Batch, training: bool) -> tf.Tensor:
        """What the teacher says of the second view, `[B, d]`, of unit norm."""
        return losses.l2_normalize(self.teacher(batch["view_1"], training=training))

    def forward(self, batch: Batch, training: bool) -> Batch:
        """The student's prediction from the first view, `[B, d]`, of unit norm."""
        projected = self.projector(self.embed(batch["view_0"], training), training=training)
        return {"query": losses.l2_normalize(self.predictor(projected, training=training))}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """InfoNCE against the keys of all replicas, each example's own in its own column."""
        keys = batch["keys"] if "keys" in batch else self.keys(batch, training=False)  # held-out: nobody made them yet
        logits = tf.matmul(outputs["query"], replicas.gather(keys), transpose_b=True) / self.options.temperature
        labels = losses.own_columns(tf.shape(logits)[0])
        return {"loss": losses.cross_entropy(logits, labels), "accuracy": losses.accuracy(logits, labels)}
