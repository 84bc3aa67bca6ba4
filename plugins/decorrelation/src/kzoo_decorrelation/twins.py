"""What Barlow Twins and VICReg share: two views through one network, and second moments over the whole batch."""

import numpy as np
import tensorflow as tf

from kzoo import augment, replicas
from kzoo.layers import mlp_head
from kzoo.method import Batch, Method
from kzoo.random import fold_in
from kzoo_decorrelation.options import TwinsOptions

_SHOWN = 64  # units whose moments are drawn
_PAIRS = 6  # pairs of views that are drawn beside them


def centred(z: tf.Tensor) -> tf.Tensor:
    """Rows `[b, d]` less the mean over the rows of all replicas."""
    return z - replicas.mean(tf.reduce_mean(z, axis=0))


def moments(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The mean of x_i y_j over the rows of all replicas, `[d, d]`, of rows `[b, d]`."""
    return replicas.mean(tf.matmul(x, y, transpose_a=True) / tf.cast(tf.shape(x)[0], x.dtype))


def off_diagonal(matrix: tf.Tensor) -> tf.Tensor:
    """The matrix with zeros on its diagonal."""
    return tf.linalg.set_diag(matrix, tf.zeros_like(tf.linalg.diag_part(matrix)))


class Twins(Method):
    """Two views `[B, h, w, C]`, each a batch of its own for batch normalisation -> backbone -> projector `[B, d]`."""

    options: TwinsOptions
    least_examples = 2
    visualised_examples = 256

    @staticmethod
    def pretext(batch: Batch, keys: tf.Tensor, options: TwinsOptions) -> Batch:
        size = options.size or batch["image"].shape[1]
        return {
            name: augment.view(batch["image"], fold_in(keys, name), size, **view.model_dump())
            for name, view in (("view_0", options.view_0), ("view_1", options.view_1))
        }

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
        """Some pairs of views, and the moments of the first units over all of them: black 0, white the largest."""
        found = np.abs(self.matrix(self.forward(batch, training=False)))[:_SHOWN, :_SHOWN]
        picture = (found / max(found.max(), 1e-12))[None, :, :, None]
        pairs = {f"view {i}": batch[f"view_{i}"].numpy()[:_PAIRS] for i in range(2)}
        return {**pairs, f"moments, {len(found)} units": picture.astype("float32")}
