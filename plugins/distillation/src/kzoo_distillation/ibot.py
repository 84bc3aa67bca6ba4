"""iBOT (Zhou, Wei, Wang, Shen, Xie, Yuille, Kong, "iBOT: image BERT pre-training with online tokenizer", ICLR 2022)."""

import math

import keras
import numpy as np
import tensorflow as tf

from kzoo import patches
from kzoo.method import Batch, Logs
from kzoo.random import bernoulli, fold_in, uniform
from kzoo.state import Centre, EMATeacher
from kzoo_distillation.parts.masks import block_mask, patch_loss, smallest_block
from kzoo_distillation.parts.multicrop import MultiCrop, entropy, over_pairs, prototype_head, sharpened
from kzoo_distillation.specs.ibot import IBOTOptions


class IBOT(MultiCrop):
    """DINO, and beside it: of each hidden patch the student says what the teacher, who sees it, says.

    Two large views `[2B, H, W, C]`, n small ones `[nB, h, w, C]` -> backbone -> class token and tokens `[T, D]` -> one
    head for both: Dense, GELU, ..., unit norm, K prototypes of unit norm -> logits. In half of the student's large
    views blocks of patches are hidden: one learned vector, at first 0, stands for them. The teacher sees large views
    whole. Two losses are added: DINO's over the class tokens of different views; and within each large view the
    cross-entropy at the hidden patches, a mean over them, then over all large views, where one without a mask counts
    as 0. Class tokens and patches have a centre each, the latter of all patches, hidden or not.

    After the optimizer's step the teacher follows, and the centres. Downstream is the teacher.

    Deviations: as DINO's: bilinear resizing, the class token alone as embedding, no stochastic depth.
    """

    options: IBOTOptions

    def build_heads(self) -> None:
        options = self.options
        self.patches = patches.patches_of(self.backbone, "masked_tokens", method=self.name)
        self.mask_token = patches.MaskToken(self.patches.width, deviation=0.0)
        self.head = prototype_head(self.width, options.head, options.prototypes, name="head")
        self.teacher = EMATeacher([self.backbone, *self.taught_heads()])
        self.centre = Centre(options.prototypes, options.centre_momentum)
        self.patch_centre = Centre(options.prototypes, options.centre_momentum, name="patch_centre")

    def taught_heads(self) -> list[keras.Sequential]:
        """The heads that the teacher has too."""
        return [self.head]

    def hidden(self, batch: Batch) -> tf.Tensor:
        """Which patches of each large view are hidden, bool `[2B, T]`; none in half of the views."""
        keys, grid = fold_in(self.large_keys(batch), "mask"), self.patches.grid(batch["large"])
        share = uniform(fold_in(keys, "share"), (), *self.options.hidden)
        share = tf.where(bernoulli(fold_in(keys, "masked"), self.options.masked), share, 0.0)
        return block_mask(keys, grid, share * grid[0] * grid[1], smallest_block(grid))

    def teach(self, batch: Batch, training: bool) -> Batch:
        """What the teacher says of large views, without gradient."""
        seen = self.teacher.models[0](batch["large"], training=training)
        return {name: tf.stop_gradient(each) for name, each in self.taught(seen, batch, training).items()}

    def taught(self, seen: Batch, batch: Batch, training: bool) -> Batch:
        """The teacher's logits for class tokens, `[2b, K]`, and for patches, `[2b, T, K]`."""
        head = self.teacher.models[1]
        return {"taught": head(seen["embedding"]), "taught_patches": patches.per_token(head, seen["tokens"])}

    def train_step(self, batch: Batch) -> Logs:
        taught, momentum = self.teach(batch, training=True), self.value(self.options.momentum)
        logs = self.minimise({**batch, **taught})
        self.teacher.update(momentum)
        self.centre.update(taught["taught"])
        self.patch_centre.update(tf.reshape(taught["taught_patches"], [-1, self.options.prototypes]))
        return logs

    def test_step(self, batch: Batch) -> Logs:
        return super().test_step({**batch, **self.teach(batch, training=False)})

    def forward(self, batch: Batch, training: bool) -> Batch:
        hidden, token = self.hidden(batch), self.mask_token.read()
        seen = patches.encode_masked(self.backbone, batch["large"], hidden, token, training)
        outputs = self.said(seen, batch, training)
        if "small" in batch:
            outputs["small"] = self.head(self.embed(batch["small"], training))
        return {**outputs, "hidden": hidden}

    def said(self, seen: Batch, batch: Batch, training: bool) -> Batch:
        """The student's logits for class tokens and patches of large views."""
        return {"large": self.head(seen["embedding"]), "patches": patches.per_token(self.head, seen["tokens"])}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """Both. Uniform logits of the student: log K each, of the patches' times the share of masked views.

        "entropy", of what the teacher says of class tokens, and "patch_entropy": 0 or log K tell of collapse.
        """
        options = self.options
        cold, warm = self.value(options.teacher_temperature), self.value(options.student_temperature)
        taught = sharpened(self.by_image(batch["taught"]), self.centre, cold)
        said = tf.nn.log_softmax(self.by_image(outputs["large"], outputs.get("small")) / warm)
        of_patches = sharpened(batch["taught_patches"], self.patch_centre, cold)
        view_loss = over_pairs(taught, said)
        hidden_loss = patch_loss(of_patches, tf.nn.log_softmax(outputs["patches"] / warm), outputs["hidden"])
        return {
            "loss": view_loss + options.patch_weight * hidden_loss,
            "view_loss": view_loss,
            "patch_loss": hidden_loss,
            "entropy": entropy(taught),
            "patch_entropy": entropy(of_patches),
        }

    def chance(self) -> dict[str, float]:
        return {"view_loss": math.log(self.options.prototypes)}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        return self.show_prototypes(batch, self.teacher(batch["large"], training=False) - self.centre.read())
