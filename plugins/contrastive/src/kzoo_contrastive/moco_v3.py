"""MoCo v3 (Chen, Xie, He, "An empirical study of training self-supervised vision transformers", ICCV 2021)."""

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, losses, replicas
from kzoo.layers import every_layer, mlp_head
from kzoo.method import Batch, Logs, Method
from kzoo.state import EMATeacher
from kzoo_contrastive.parts.matches import matches
from kzoo_contrastive.specs.moco_v3 import MoCoV3Options


class MoCoV3(Method):
    """MoCo without a queue: each view's prediction must find the other view's key among the keys of the whole batch.

    Views `[B, h, w, C]` -> backbone -> projector -> predictor `[B, 256]`: queries. The momentum encoder, a copy of
    backbone and projector that moves towards them before each step, gives the keys, without gradient. The loss is
    symmetric (algorithm 1). The momentum rises to 1 by half a cosine.

    A ViT is unstable where its patch projection learns, so that stays as it was initialised (section 4.2): the first
    convolution of a backbone with tokens, if its patches do not overlap. The defaults are the paper's for ResNet-50;
    for a ViT it has a projector of three layers (4096, 4096, 256), a predictor with a last normalisation, temperature
    0.2, and crops from 0.08 of the area.
    """

    options: MoCoV3Options
    least_examples = 2

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: MoCoV3Options) -> Batch:
        first, second = options.view_0.model_dump(), options.view_1.model_dump()
        return augment.two_views(batch["image"], seed, options.size, first, second)

    def build_heads(self) -> None:
        patches = self.patch_projection()
        if patches is not None and self.options.freeze_patches:
            patches.trainable = False  # before the copy is made: it then holds the same values for good
        widths = {"projector": self.options.projector, "predictor": self.options.predictor}
        self.projector = mlp_head(widths["projector"], hidden_norm=True, final_norm="no_affine", name="projector")
        self.projector.build((None, self.width))
        self.predictor = mlp_head(
            widths["predictor"],
            hidden_norm=True,
            final_norm="no_affine" if self.options.predictor_norm else False,
            final_bias=False,
            name="predictor",
        )
        self.predictor.build((None, widths["projector"][-1]))
        self.key_encoder = EMATeacher([self.backbone, self.projector], name="key_encoder")

    def patch_projection(self) -> keras.layers.Layer | None:
        """The convolution that turns a ViT's patches into tokens; None where the backbone has none."""
        if "tokens" not in self.backbone.output:
            return None
        convolutions = (each for each in every_layer(self.backbone) if isinstance(each, keras.layers.Conv2D))
        first = next(convolutions, None)
        return first if first is not None and first.kernel_size == first.strides != (1, 1) else None

    def train_step(self, batch: Batch) -> Logs:
        self.key_encoder.update(self.value(self.options.momentum))
        return self.minimise({**batch, **self.keys(batch, training=True)})

    def keys(self, batch: Batch, training: bool) -> Batch:
        """The unit-norm keys `[b, 256]` of both views, each view a batch of its own for batch normalisation."""
        return {
            key: losses.l2_normalize(self.key_encoder(batch[view], training=training))
            for key, view in (("key_0", "view_0"), ("key_1", "view_1"))
        }

    def forward(self, batch: Batch, training: bool) -> Batch:
        def query(view: tf.Tensor) -> tf.Tensor:
            projected = self.projector(self.embed(view, training), training=training)
            return losses.l2_normalize(self.predictor(projected, training=training))

        return {"query_0": query(batch["view_0"]), "query_1": query(batch["view_1"])}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """2 T times the cross-entropy in each direction, summed. All logits equal: 4 T log B."""
        keys = batch if "key_0" in batch else self.keys(batch, training=False)
        temperature = self.options.temperature

        def contrast(query: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            logits = tf.matmul(query, replicas.gather(key), transpose_b=True) / temperature
            labels = losses.own_columns(tf.shape(query)[0])
            return 2.0 * temperature * losses.cross_entropy(logits, labels), losses.accuracy(logits, labels)

        first, accuracy = contrast(outputs["query_0"], keys["key_1"])
        second, _ = contrast(outputs["query_1"], keys["key_0"])
        return {"loss": first + second, "accuracy": accuracy}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """Which key of the batch is most like each query."""
        query, key = self.forward(batch, training=False)["query_0"], self.keys(batch, training=False)["key_1"]
        return matches(("query", batch["view_0"], query), ("key", batch["view_1"], key))
