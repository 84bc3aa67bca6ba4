"""DINO (Caron, Touvron, Misra, Jégou, Mairal, Bojanowski, Joulin, "Emerging properties in self-supervised vision
transformers", ICCV 2021).
"""

import math

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment
from kzoo.layers import UnitDense, mlp_head
from kzoo.method import Batch, Group, Logs, Method
from kzoo.state import Centre, EMATeacher
from kzoo_distillation.options import DINOOptions


class DINO(Method):
    """From any view of an image the student predicts what a teacher, its moving average, says of the large views.

    Two large views `[2B, H, W, C]`, n small ones `[nB, h, w, C]` -> backbone -> head: Dense, GELU, ..., unit norm, K
    prototypes of unit norm -> logits. The teacher sees the large views only; its logits are centred, so that no
    prototype wins always, and sharpened by a low temperature, so that they do not all win alike: without either it
    collapses. The loss is the mean cross-entropy over all pairs of a large and another view (equation 2). After the
    optimizer's step the teacher follows, and the centre, a moving mean of the teacher's logits over all replicas.

    The prototypes keep unit norm, and stay as they were drawn for the first epoch. The authors clip each tensor's
    gradient to norm 3 (`optimizer.clip_tensor_norm`), and let weight decay rise from 0.04 to 0.4 by a cosine.

    Deviations: views are resized bilinearly, not bicubically; the embedding is the class token's alone, where the
    authors' linear probe of ViT-S joins those of the last four blocks; no stochastic depth.
    """

    options: DINOOptions

    @staticmethod
    def pretext(batch: Batch, keys: tf.Tensor, options: DINOOptions) -> Batch:
        images = batch["image"]
        size = options.size or images.shape[1]
        small = options.local_size or max(8, round(size * 3 / 7))
        large = [options.view_0, options.view_1]
        views = {"large": augment.views(images, keys, size, [view.model_dump() for view in large], name="large")}
        if options.local_views:
            many = [options.local_view.model_dump()] * options.local_views
            views["small"] = augment.views(images, keys, small, many, name="small")
        return views

    def build_heads(self) -> None:
        options = self.options
        mlp = mlp_head(options.head, activation="gelu", name="mlp")
        prototypes = UnitDense(options.prototypes, name="prototypes")
        self.head = keras.Sequential([mlp, prototypes], name="head")
        self.head.build((None, self.width))
        self.prototypes = prototypes
        self.teacher = EMATeacher([self.backbone, self.head])
        self.centre = Centre(options.prototypes, options.centre_momentum)

    def optimizer_groups(self) -> dict[str, Group]:
        last = self.prototypes.trainable_variables
        rest = [variable for variable in self.trainable_variables if variable is not last[0]]
        return {"main": Group(rest), "prototypes": Group(last, frozen_until_epoch=self.options.freeze_epochs)}

    def train_step(self, batch: Batch) -> Logs:
        taught = self.teacher(batch["large"], training=True)
        logs = self.minimise({**batch, "taught": taught})
        self.teacher.update(self.value(self.options.momentum))
        self.centre.update(taught)
        return logs

    def test_step(self, batch: Batch) -> Logs:
        return super().test_step({**batch, "taught": self.teacher(batch["large"], training=False)})

    def forward(self, batch: Batch, training: bool) -> Batch:
        return {
            size: self.head(self.embed(batch[size], training), training=training)
            for size in ("large", "small")
            if size in batch
        }

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """The mean over all pairs of different views; uniform logits of the student: log K.

        "entropy" is the mean entropy of what the teacher says: 0 or log K tell of collapse.
        """
        options = self.options
        said = [tf.reshape(outputs["large"], [-1, 2, options.prototypes])]
        if "small" in outputs:
            said.append(tf.reshape(outputs["small"], [-1, options.local_views, options.prototypes]))
        student = tf.nn.log_softmax(tf.concat(said, axis=1) / self.value(options.student_temperature))
        taught = tf.reshape(batch["taught"] - self.centre.read(), [-1, 2, options.prototypes])
        teacher = tf.nn.softmax(taught / self.value(options.teacher_temperature))
        crossed = -tf.einsum("btk,bsk->bts", teacher, student)  # [b, 2, 2 + n]
        other = 1.0 - tf.eye(2, crossed.shape[2], dtype=crossed.dtype)
        entropy = -tf.reduce_sum(tf.math.xlogy(teacher, teacher), axis=-1)
        return {
            "loss": tf.reduce_mean(tf.reduce_sum(other * crossed, axis=(1, 2))) / (2 * crossed.shape[2] - 2),
            "entropy": tf.reduce_mean(entropy),
        }

    def chance(self) -> dict[str, float]:
        return {"loss": math.log(self.options.prototypes)}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """The large views, and the prototype that the teacher finds most like each."""
        taught = self.teacher(batch["large"], training=False) - self.centre.read()
        chosen = np.argmax(tf.reshape(taught, [-1, 2, self.options.prototypes]), axis=2)
        first, second = batch["large"][::2].numpy(), batch["large"][1::2].numpy()
        said = [f"{a} and {b}" + (", alike" if a == b else "") for a, b in chosen]
        return {"view 0": first, "view 1": second, "prototype": said}
