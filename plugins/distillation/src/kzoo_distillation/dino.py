"""DINO (Caron, Touvron, Misra, Jégou, Mairal, Bojanowski, Joulin, "Emerging properties in self-supervised vision
transformers", ICCV 2021).
"""

import math

import numpy as np
import tensorflow as tf

from kzoo.method import Batch, Logs
from kzoo.state import Centre, EMATeacher
from kzoo_distillation.parts.multicrop import MultiCrop, entropy, over_pairs, prototype_head, sharpened
from kzoo_distillation.specs.dino import DINOOptions


class DINO(MultiCrop):
    """From any view of an image the student predicts what a teacher, its moving average, says of the large views.

    Two large views `[2B, H, W, C]`, n small ones `[nB, h, w, C]` -> backbone -> head: Dense, GELU, ..., unit norm, K
    prototypes of unit norm -> logits. The teacher sees the large views only; its logits are centred, so that no
    prototype wins always, and sharpened by a low temperature, so that they do not all win alike: without either it
    collapses. The loss is the mean cross-entropy over all pairs of a large and another view (equation 2). After the
    optimizer's step the teacher follows, and the centre, a moving mean of the teacher's logits over all replicas.
    Downstream is the teacher.

    The prototypes keep unit norm, and stay as they were drawn for the first epoch. The authors clip each tensor's
    gradient to norm 3 (`optimizer.clip_tensor_norm`), and weight decay rises from 0.04 to 0.4 by a cosine.

    Deviations: views are resized bilinearly, not bicubically; the embedding is the class token's alone, where the
    authors' linear probe of ViT-S joins those of the last four blocks; no stochastic depth.
    """

    options: DINOOptions

    def build_heads(self) -> None:
        options = self.options
        self.head = prototype_head(self.width, options.head, options.prototypes, name="head")
        self.teacher = EMATeacher([self.backbone, self.head])
        self.centre = Centre(options.prototypes, options.centre_momentum)

    def train_step(self, batch: Batch) -> Logs:
        taught, momentum = self.teacher(batch["large"], training=True), self.value(self.options.momentum)
        logs = self.minimise({**batch, "taught": taught})
        self.teacher.update(momentum)
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
        logits = self.by_image(outputs["large"], outputs.get("small"))
        said = tf.nn.log_softmax(logits / self.value(self.options.student_temperature))
        taught = self.targets(self.by_image(batch["taught"]))
        return {"loss": over_pairs(taught, said), "entropy": entropy(taught)}

    def targets(self, logits: tf.Tensor) -> tf.Tensor:
        """What the teacher says, `[..., K]`: centred and sharpened."""
        return sharpened(logits, self.centre, self.value(self.options.teacher_temperature))

    def chance(self) -> dict[str, float]:
        return {"loss": math.log(self.options.prototypes)}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        return self.show_prototypes(batch, self.teacher(batch["large"], training=False) - self.centre.read())
