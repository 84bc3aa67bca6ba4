"""DINOv2 (Oquab, Darcet, Moutakanni, Vo, Szafraniec et al., "DINOv2: learning robust visual features without
supervision", TMLR 2024).
"""

import math

import keras
import numpy as np
import tensorflow as tf

from kzoo import losses, patches
from kzoo.method import Batch, Group, Logs
from kzoo.random import fold_in
from kzoo.state import EMATeacher
from kzoo_distillation.parts.koleo import koleo
from kzoo_distillation.parts.masks import at_places, mask_one_of_two, patch_loss
from kzoo_distillation.parts.multicrop import MultiCrop, entropy, over_pairs, patch_projection, prototype_head
from kzoo_distillation.specs.dinov2 import DINOv2Options


class DINOv2(MultiCrop):
    """DINO for class tokens and iBOT for hidden patches, each with a head of its own; and class tokens keep apart.

    Two large views `[2B, H, W, C]`, n small ones `[nB, h, w, C]` -> backbone -> class token and tokens `[T, D]`. Of one
    large view of each image blocks of patches are hidden from the student. One head has class tokens, another hidden
    patches: Dense, GELU, ..., unit norm, K prototypes of unit norm, each with a gain that is learnt -> logits. The
    teacher's targets use all prototypes alike (Sinkhorn-Knopp on logits / temperature, over the global batch: of class
    tokens, and of hidden patches alone). Three losses are added: DINO's, the mean over pairs of a large and another
    view; iBOT's, the mean over the hidden patches of a view, then over all large views, masked or not; and 0.1 times
    KoLeo's for each large view: minus the mean log distance of a class token, of unit norm, to its nearest.

    After the optimizer's step the teacher follows. Downstream is the teacher. The patch projection learns at a fifth of
    the rate; prototypes stay as they were drawn for the first epoch.

    Deviations: of each image one large view is masked, its share drawn for itself, where the authors mask half of a
    batch's views, with shares spread evenly over them; KoLeo looks for the nearest in the global batch, theirs in a
    device's; no layer scale, stochastic depth, or rates that fall by layer; gradients are clipped by tensor or as a
    whole, theirs by part of the network. Their curated data, distillation and high-resolution phase are not here.
    """

    options: DINOv2Options
    least_examples = 2

    def build_heads(self) -> None:
        options = self.options
        self.patches = patches.patches_of(self.backbone, "masked_tokens", method=self.name)
        self.mask_token = patches.MaskToken(self.patches.width, deviation=0.0)
        self.head, self.patch_head = (
            prototype_head(self.width, widths, options.prototypes, name=name, gain=True)
            for name, widths in (("head", options.head), ("patch_head", options.patch_head))
        )
        self.teacher = EMATeacher([self.backbone, self.head, self.patch_head])

    def heads(self) -> list[keras.Sequential]:
        return [self.head, self.patch_head]

    def optimizer_groups(self) -> dict[str, Group]:
        groups = super().optimizer_groups()
        slow = patch_projection(self.backbone).trainable_variables
        projection = Group(slow, lr_scale=self.options.patch_lr_scale)
        main = self.trainable_but([*groups["prototypes"].variables, *slow])
        return {**groups, "main": Group(main), "patch_projection": projection}

    def masked(self, batch: Batch) -> Batch:
        """The batch with its masks (`mask_one_of_two`)."""
        if "hidden" in batch:
            return batch
        keys, grid = fold_in(batch["seed"], "mask"), self.patches.grid(batch["large"])
        return {**batch, **mask_one_of_two(keys, grid, self.options.hidden)}

    def of_hidden(self, head: keras.Sequential, tokens: tf.Tensor, batch: Batch) -> tf.Tensor:
        """What a head says at the places that may be hidden, `[b, m, K]`, of tokens `[2b, T, D]`."""
        return patches.per_token(head, at_places(tokens, batch["view"], batch["places"]))

    def teach(self, batch: Batch, training: bool) -> Batch:
        """A masked batch with the teacher's targets: "taught" `[2b, K]` and "taught_patches" `[b, m, K]`."""
        batch, temperature = self.masked(batch), self.value(self.options.teacher_temperature)
        backbone, head, patch_head = self.teacher.models
        seen = backbone(batch["large"], training=training)
        logits = self.of_hidden(patch_head, seen["tokens"], batch) / temperature
        rows, counted = tf.reshape(logits, [-1, logits.shape[-1]]), tf.reshape(batch["counted"], [-1])
        taught = losses.sinkhorn(head(seen["embedding"]) / temperature)
        of_patches = losses.sinkhorn(rows, counted=counted)
        return {**batch, "taught": taught, "taught_patches": tf.reshape(of_patches, tf.shape(logits))}

    def train_step(self, batch: Batch) -> Logs:
        momentum = self.value(self.options.momentum)
        logs = self.minimise(self.teach(batch, training=True))
        self.teacher.update(momentum)
        return logs

    def test_step(self, batch: Batch) -> Logs:
        return super().test_step(self.teach(batch, training=False))

    def forward(self, batch: Batch, training: bool) -> Batch:
        batch, token = self.masked(batch), self.mask_token.read()
        seen = patches.encode_masked(self.backbone, batch["large"], batch["hidden"], token, training)
        outputs = {"class_tokens": seen["embedding"], "large": self.head(seen["embedding"])}
        outputs["patches"] = self.of_hidden(self.patch_head, seen["tokens"], batch)
        if "small" in batch:
            outputs["small"] = self.head(self.embed(batch["small"], training))
        return outputs

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """All three. Uniform logits of the student: log K, and half of it of the patches."""
        warm = self.value(self.options.student_temperature)
        taught = self.by_image(batch["taught"])
        said = tf.nn.log_softmax(self.by_image(outputs["large"], outputs.get("small")) / warm)
        view_loss = over_pairs(taught, said)
        of_patches = tf.nn.log_softmax(outputs["patches"] / warm)
        hidden_loss = patch_loss(batch["taught_patches"], of_patches, batch["counted"]) / 2
        apart = koleo(outputs["class_tokens"][::2]) + koleo(outputs["class_tokens"][1::2])
        return {
            "loss": view_loss + self.options.patch_weight * hidden_loss + self.options.koleo * apart,
            "view_loss": view_loss,
            "patch_loss": hidden_loss,
            "koleo": apart,
            "entropy": entropy(taught),
        }

    def chance(self) -> dict[str, float]:
        uniform_loss = math.log(self.options.prototypes)
        return {"view_loss": uniform_loss, "patch_loss": uniform_loss / 2}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        return self.show_prototypes(batch, self.teach(batch, training=False)["taught"])
