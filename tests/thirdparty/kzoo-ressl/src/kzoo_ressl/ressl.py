"""ReSSL (Zheng et al., "ReSSL: Relational self-supervised learning with weak augmentation", NeurIPS 2021)."""

import math

import tensorflow as tf

import kzoo
from kzoo import augment, evaluate, losses
from kzoo.data import evaluation_batches
from kzoo.layers import mlp_head
from kzoo.random import fold_in
from kzoo.state import EMATeacher, Queue
from kzoo_ressl.options import ReSSLOptions


class ReSSL(kzoo.Method):
    """The student's strong view must relate to remembered embeddings as the teacher's weak view does."""

    options: ReSSLOptions

    @staticmethod
    def pretext(batch, seed, options):
        size = options.size or batch["image"].shape[1]
        weak = augment.random_resized_crop(batch["image"], fold_in(seed, "weak"), size, scale=(0.2, 1.0))
        strong = augment.view(batch["image"], fold_in(seed, "strong"), size, **options.strong.model_dump())
        return {"weak": weak, "strong": strong}

    def build_heads(self):
        self.projector = mlp_head(self.options.projector, name="projector")
        self.projector.build((None, self.width))
        self.teacher = EMATeacher([self.backbone, self.projector])
        self.queue = Queue(self.options.queue, self.options.projector[-1])

    def train_step(self, batch):
        self.teacher.update(self.options.momentum)
        target = self.target(batch, training=True)
        logs = self.minimise({**batch, "target": target})
        self.queue.enqueue(target)
        return logs

    def target(self, batch, training):
        """The teacher's embedding of the weak view, `[B, d]`, of unit norm."""
        return losses.l2_normalize(self.teacher(batch["weak"], training=training))

    def forward(self, batch, training):
        student = self.projector(self.embed(batch["strong"], training), training=training)
        return {"student": losses.l2_normalize(student)}

    def loss(self, outputs, batch):
        """Cross-entropy of the student's relations under the teacher's (equation 4). Uniform student: log(queue)."""
        target = batch["target"] if "target" in batch else self.target(batch, training=False)
        remembered = self.queue.read()
        teacher = tf.matmul(target, remembered, transpose_b=True) / self.options.teacher_temperature
        student = tf.matmul(outputs["student"], remembered, transpose_b=True) / self.options.student_temperature
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(teacher), student))

    def chance(self):
        return {"loss": math.log(self.options.queue)}

    def visualise(self, raw, batch):
        return {"the teacher's": batch["weak"].numpy(), "the student's": batch["strong"].numpy()}

    def extra_metrics(self, train, test):
        if test is None:
            return {}
        splits = [evaluation_batches(source, 256, self.input_size) for source in (train, test)]
        train, test = (evaluate.embed(self.encoder, batches) for batches in splits)
        return {"nearest_neighbour": evaluate.knn(train, test, k=1)}
