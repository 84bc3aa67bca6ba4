"""Instance discrimination (Wu, Xiong, Yu, Lin, "Unsupervised feature learning via non-parametric instance
discrimination", CVPR 2018).
"""

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, evaluate, losses, replicas
from kzoo.data import Source, evaluation_batches
from kzoo.layers import mlp_head
from kzoo.method import Batch, Logs, Method
from kzoo.state import MemoryBank
from kzoo_contrastive.parts.nce import NoiseContrast, compare, drawn_noise
from kzoo_contrastive.specs.inst_disc import InstDiscOptions

MEAN = "mean_exponential"  # of the scores of a batch, among the figures of its loss
NEIGHBOURS = 200  # that vote in the paper's own evaluation, section 3.4


class InstDisc(Method):
    """Every training image is a class of its own; the class's weights are the image's last feature, in a memory bank.

    View `[B, h, w, C]` -> backbone -> Dense `[B, 128]` -> unit norm: f. Image i must be told from the others by
    exp(f . v_i / temperature), v_i its entry in the bank: by noise-contrastive estimation against `noise` entries drawn
    anew for each example (section 3.2), or, where `noise` is none, by the softmax over all images (equation 2). After
    the loss the bank follows: v_i <- L2(momentum * v_i + (1 - momentum) * f).

    The paper writes f itself into the bank (momentum 0) and adds proximal * |f - v_i|^2 to the loss (section 3.3); its
    released code has no such term and smooths the bank instead, with momentum 0.5, which is the default here.

    Memory: the bank takes n x 128 x 4 bytes on every replica (0.66 GB for ImageNet's 1.28 million), the entries of one
    step b x (1 + noise) x 128 x 4 on top; the full softmax instead a copy of the bank and b x n similarities.

    An image that was not trained on has no entry and no class: there is no held-out loss. `extra_metrics` is the
    paper's own evaluation, the vote of 200 neighbours in the bank.
    """

    options: InstDiscOptions
    has_held_out_loss = False

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: InstDiscOptions) -> Batch:
        size = options.size or batch["image"].shape[1]
        return {"view": augment.view(batch["image"], seed, size, **options.view.model_dump())}

    def build_heads(self) -> None:
        self.projector = mlp_head(self.options.projector, name="projector")
        self.projector.build((None, self.width))
        self.bank = MemoryBank(self.require_examples(), self.options.projector[-1])
        self.noise_contrast = NoiseContrast(self.options.noise) if self.options.noise else None

    def forward(self, batch: Batch, training: bool) -> Batch:
        feature = self.projector(self.embed(batch["view"], training), training=training)
        return {"feature": losses.l2_normalize(feature)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """NCE (all P = 1 / n, 4,096 noise entries: 9.3179) or the full softmax (all scores equal: log n)."""
        feature = outputs["feature"]
        drawn = drawn_noise(batch, self.options.noise, self.bank.size)
        loss, accuracy, mean = compare(
            feature, self.bank, batch["id"], drawn, self.noise_contrast, self.options.temperature
        )
        if self.options.proximal:
            moved = feature - tf.cast(self.bank.read(batch["id"]), feature.dtype)
            loss += self.options.proximal * tf.reduce_mean(tf.reduce_sum(tf.square(moved), axis=1))
        return {"loss": loss, "accuracy": accuracy, MEAN: mean}

    def train_step(self, batch: Batch) -> Logs:
        logs = self.minimise(batch)
        mean = logs.pop(MEAN)
        if self.noise_contrast:
            self.noise_contrast.keep(mean)
        self.bank.blend(batch["id"], logs.outputs["feature"], self.options.momentum)  # the loss saw the old entries
        return logs

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """Accuracy of the weighted vote of 200 neighbours in the bank, each with exp(cosine / temperature)."""
        if test is None or not train.classes:
            return {}
        features = self.projector(self.backbone.output["embedding"])
        model = keras.Model(self.backbone.input, {"embedding": features})
        found = evaluate.embed(model, evaluation_batches(test, 256, self.input_size))
        labels = np.empty(train.size, np.int64)
        for batch in evaluation_batches(train, 256):
            labels[batch["id"]] = batch["label"]
        entries = np.asarray(replicas.copies(self.bank.entries)[0])
        bank = evaluate.Features(entries, labels, np.arange(train.size))
        return {"bank_knn_accuracy": evaluate.knn(bank, found, NEIGHBOURS, self.options.temperature)}
