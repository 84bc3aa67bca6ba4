"""What BYOL and SimSiam share: two views of each image, and cosines between what is said of them."""

import numpy as np
import tensorflow as tf

from kzoo import augment, replicas
from kzoo.losses import l2_normalize
from kzoo.method import Batch, Method
from kzoo_distillation.specs.twins import TwinsOptions

VIEWS = ("view_0", "view_1")


class Twins(Method):
    """Two views `[B, h, w, C]` of each image, each a batch of its own for batch normalisation."""

    options: TwinsOptions
    least_examples = 2

    @staticmethod
    def pretext(batch: Batch, keys: tf.Tensor, options: TwinsOptions) -> Batch:
        first, second = options.view_0.model_dump(), options.view_1.model_dump()
        return augment.two_views(batch["image"], keys, options.size, first, second)

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """The views, and how alike the encoder finds them, beside the mean over views of different images."""
        first, second = (l2_normalize(self.encoder(batch[view], training=False)["embedding"]) for view in VIEWS)
        found = np.asarray(tf.matmul(first, second, transpose_b=True))
        others = (found.sum(axis=1) - np.diag(found)) / max(len(found) - 1, 1)
        said = [f"{own:.2f}\nothers {other:.2f}" for own, other in zip(np.diag(found), others, strict=True)]
        return {"view 0": batch["view_0"].numpy(), "view 1": batch["view_1"].numpy(), "cosine": said}


def cosines(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The cosine of each row of `x` `[b, d]` with that of `y`, `[b]`."""
    return tf.reduce_sum(l2_normalize(x) * l2_normalize(y), axis=-1)


def spread(z: tf.Tensor) -> tf.Tensor:
    """How far apart unit-norm rows `[b, d]` lie: sqrt(d) times the mean of the units' standard deviations, about 1
    where they point in all directions, 0 where they are equal (Chen, He 2021, section 4.1). Over the rows of all
    replicas, without gradient.
    """
    unit = l2_normalize(tf.stop_gradient(z))
    centred = unit - replicas.mean(tf.reduce_mean(unit, axis=0))
    deviations = tf.sqrt(replicas.mean(tf.reduce_mean(tf.square(centred), axis=0)))
    return tf.reduce_mean(deviations) * tf.sqrt(tf.cast(unit.shape[-1], unit.dtype))
