"""What Barlow Twins and VICReg share: two views through one network."""

import numpy as np
import tensorflow as tf

from kzoo import augment
from kzoo.layers import mlp_head
from kzoo.method import Batch, Method
from kzoo_decorrelation.moments import PAIRS, picture
from kzoo_decorrelation.options import TwinsOptions


class Twins(Method):
    """Two views `[B, h, w, C]`, each a batch of its own for batch normalisation -> backbone -> projector `[B, d]`."""

    options: TwinsOptions
    least_examples = 2
    visualised_examples = 256

    @staticmethod
    def pretext(batch: Batch, keys: tf.Tensor, options: TwinsOptions) -> Batch:
        first, second = options.view_0.model_dump(), options.view_1.model_dump()
        return augment.two_views(batch["image"], keys, options.size, first, second)

    def build_heads(self) -> None:
        self.projector = mlp_head(self.options.projector, hidden_norm=True, final_bias=False, name="projector")
        self.projector.build((None, self.width))

    def forward(self, batch: Batch, training: bool) -> Batch:
        return {
            name: self.projector(self.embed(batch[view], training), training=training)
            for name, view in (("z_0", "view_0"), ("z_1", "view_1"))
        }

    def matrix(self, outputs: Batch) -> tf.Tensor:
        """The second moments of the embeddings that the loss reads, `[d, d]`."""
        raise TypeError(f"{type(self).__name__} must define matrix(outputs)")

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """Some pairs of views, and the moments of the first units over all of them."""
        pairs = {f"view {i}": batch[f"view_{i}"].numpy()[:PAIRS] for i in range(2)}
        return {**pairs, **picture("moments", self.matrix(self.forward(batch, training=False)))}
