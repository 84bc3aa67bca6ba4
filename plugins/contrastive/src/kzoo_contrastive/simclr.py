"""SimCLR (Chen, Kornblith, Norouzi, Hinton, "A simple framework for contrastive learning", ICML 2020)."""

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, losses
from kzoo.layers import mlp_head
from kzoo.method import Batch, Logs, Method
from kzoo_contrastive.parts.matches import matches
from kzoo_contrastive.specs.simclr import SimCLROptions


class SimCLR(Method):
    """Two augmented views of each image must find each other among all other views of the batch.

    Views `[B, h, w, C]` -> backbone `[B, D]` -> projector `[B, 128]` -> NT-Xent over the global batch, both views in
    one forward pass, so that batch normalisation sees them together. The projector is dropped downstream. SimCLR v2
    (Chen, Kornblith, Swersky, Norouzi, Hinton, NeurIPS 2020) has a projector of three layers and keeps the first:
    `projector: [2048, 2048, 128]`, `keep: 1`.

    The loss is the paper's mean over the 2B anchors. The authors' code returns the sum of the two views' means, twice
    that: with an optimizer that follows the size of the gradient, their learning rate is half of the one for this loss;
    LARS and Adam do not. Decoupled, the positive leaves the denominator (Yeh et al., ECCV 2022), which helps small
    batches.

    Deviations: the image is not blurred where `blur_p` is 0, as for CIFAR; colour is clipped to [0, 1] once, after all
    colour steps, not after each.
    """

    options: SimCLROptions
    least_examples = 2

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: SimCLROptions) -> Batch:
        view = options.view.model_dump()
        return augment.two_views(batch["image"], seed, options.size, view, view)

    def build_heads(self) -> None:
        self.projector = mlp_head(self.options.projector, hidden_norm=True, final_norm="no_beta", name="projector")
        for layer in self.projector.layers:
            if isinstance(layer, keras.layers.Dense):
                layer.kernel_initializer = keras.initializers.RandomNormal(stddev=0.01)
        self.projector.build((None, self.width))
        self._longer: keras.Model | None = None
        if self.options.keep:
            x = self.backbone.output["embedding"]
            for layer in self.projector.layers[: 3 * self.options.keep]:  # each Dense, its normalisation and its ReLU
                x = layer(x)
            self._longer = keras.Model(self.backbone.input, {**self.backbone.output, "embedding": x}, name="encoder")

    @property
    def encoder(self) -> keras.Model:
        """The backbone, followed by the first `keep` layers of the projector."""
        return self._longer or self.backbone

    def forward(self, batch: Batch, training: bool) -> Batch:
        both = tf.concat([batch["view_0"], batch["view_1"]], axis=0)
        z_0, z_1 = tf.split(self.projector(self.embed(both, training), training=training), 2)
        return {"z_0": z_0, "z_1": z_1}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """NT-Xent (equation 1). All projections equal: log(2B - 1); decoupled: log(2B - 2)."""
        logits_0, logits_1, labels = losses.nt_xent_logits(outputs["z_0"], outputs["z_1"], self.options.temperature)
        contrast = losses.decoupled_cross_entropy if self.options.decoupled else losses.cross_entropy
        loss = (contrast(logits_0, labels) + contrast(logits_1, labels)) / 2
        return {"loss": loss, "accuracy": losses.accuracy(logits_0, labels)}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """Which second view of the batch is most like each first view."""
        outputs = self.forward(batch, training=False)
        z_0, z_1 = losses.l2_normalize(outputs["z_0"]), losses.l2_normalize(outputs["z_1"])
        return matches(("view 0", batch["view_0"], z_0), ("view 1", batch["view_1"], z_1))
