"""SwAV (Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, "Unsupervised learning of visual features by contrasting
cluster assignments", NeurIPS 2020).
"""

import math

import numpy as np
import tensorflow as tf

from kzoo import augment, losses, replicas
from kzoo.layers import UnitDense, mlp_head
from kzoo.method import Batch, Group, Logs, Method
from kzoo.state import Queue
from kzoo_clustering.options import SwAVOptions

_PROTOTYPES, _NEAREST = 6, 5  # that are drawn, and images of each


class SwAV(Method):
    """From any view of an image it is predicted which prototypes another, large view of it is assigned to.

    Two large views `[2B, H, W, C]`, n small ones `[nB, h, w, C]` -> backbone -> projector -> unit norm: z -> cosines
    with K prototypes: scores. A large view's code is its share in the prototypes when all of them are used alike over
    the global batch (Sinkhorn-Knopp on scores / 0.05), so that not all views get one prototype. The loss is the mean
    over both codes, and over all views but their own, of the cross-entropy with softmax(scores / 0.1) (section 3.2).
    Codes have no gradient.

    The prototypes keep unit norm, and stay as they were drawn for the first epoch. Where the batch is much smaller than
    K, a queue for each large view holds the embeddings of earlier batches, which share the prototypes with it from some
    epoch on. The optimizer's step comes first; then the batch joins the queue, and the prototypes are scaled to norm 1.

    Deviations: the queue is filled from the beginning, where the authors begin at that epoch and wait until it is full;
    the gradient of a prototype has no part along it, which scaling to norm 1 would undo.
    """

    options: SwAVOptions
    least_examples = 2
    visualised_examples = 256

    @staticmethod
    def pretext(batch: Batch, keys: tf.Tensor, options: SwAVOptions) -> Batch:
        large = [options.global_view.model_dump()] * 2
        small = [options.local_view.model_dump()] * options.local_views
        sizes = {"size": options.size, "small_size": options.local_size}
        return augment.multi_crop(batch["image"], keys, large, small, **sizes)

    def build_heads(self) -> None:
        options, width = self.options, self.options.projector[-1]
        self.projector = mlp_head(options.projector, hidden_norm=True, name="projector")
        self.projector.build((None, self.width))
        self.prototypes = UnitDense(options.prototypes, name="prototypes")
        self.prototypes.build((None, width))
        self.prototypes.kernel.assign(tf.math.l2_normalize(self.prototypes.kernel, axis=0))
        self.queues = [Queue(options.queue, width, name=f"queue_{view}") for view in range(2)] if options.queue else []
        for queue in self.queues:
            queue.keys.assign(tf.zeros_like(queue.keys))  # a row of zeros is not filled yet

    def optimizer_groups(self) -> dict[str, Group]:
        last = self.prototypes.trainable_variables
        prototypes = Group(last, frozen_until_epoch=self.options.freeze_epochs)
        return {"main": Group(self.trainable_but(last)), "prototypes": prototypes}

    def train_step(self, batch: Batch) -> Logs:
        logs = self.minimise(batch)
        for view, queue in enumerate(self.queues):
            queue.enqueue(logs.outputs["large"][view::2])
        kernel = replicas.local(self.prototypes.kernel)
        kernel.assign(tf.math.l2_normalize(kernel, axis=0))
        return logs

    def forward(self, batch: Batch, training: bool) -> Batch:
        """The unit-norm embeddings z of each size; the projector sees all views in one batch."""
        embedded = {size: self.embed(batch[size], training) for size in ("large", "small") if size in batch}
        z = losses.l2_normalize(self.projector(tf.concat(list(embedded.values()), axis=0), training=training))
        return dict(zip(embedded, tf.split(z, [tf.shape(each)[0] for each in embedded.values()]), strict=True))

    def codes(self, scores: tf.Tensor, view: int) -> tf.Tensor:
        """The codes `[b, K]` of a large view's scores `[b, K]`, together with those of its queue, if that is used."""
        temperature = self.value(self.options.code_temperature)
        if not self.queues:
            return losses.sinkhorn(scores / temperature, self.options.iterations)
        queue = self.queues[view]
        # of the queue, which is the same everywhere, each replica takes its share, as of the batch
        keys = tf.gather(queue.read(), losses.own_columns(queue.size // replicas.count()))
        used = (self.epoch() >= self.options.queue_from_epoch) & tf.reduce_any(keys != 0, axis=1)
        logits = tf.concat([scores, self.prototypes(keys)], axis=0) / temperature
        counted = tf.concat([tf.ones(tf.shape(scores)[0], tf.bool), used], axis=0)
        return losses.sinkhorn(logits, self.options.iterations, counted)[: tf.shape(scores)[0]]

    def loss(self, outputs: Batch, batch: Batch) -> tf.Tensor:
        """The mean over both codes and all other views. Equal scores: log K."""
        views = {"large": 2, "small": self.options.local_views}
        z = [tf.reshape(outputs[size], [-1, views[size], outputs[size].shape[-1]]) for size in views if size in outputs]
        scores = self.prototypes(tf.concat(z, axis=1))  # [b, 2 + n, K]
        predictions = tf.nn.log_softmax(scores / self.value(self.options.temperature))
        codes = tf.stack([self.codes(scores[:, view], view) for view in range(2)], axis=1)
        crossed = -tf.einsum("bck,bvk->bcv", codes, predictions)
        other = 1.0 - tf.eye(2, crossed.shape[2], dtype=crossed.dtype)
        return tf.reduce_mean(tf.reduce_sum(other * crossed, axis=(1, 2))) / (2 * crossed.shape[2] - 2)

    def chance(self) -> dict[str, float]:
        return {"loss": math.log(self.options.prototypes)}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """The prototypes that are nearest to the most images, and the images nearest to each, the nearest first."""
        scores = np.asarray(self.prototypes(self.projector(self(raw["image"]), training=False)))
        counts = np.bincount(np.argmax(scores, axis=1), minlength=scores.shape[1])
        chosen = np.argsort(-counts, kind="stable")[:_PROTOTYPES]
        nearest = np.argsort(-scores[:, chosen], axis=0, kind="stable")[:_NEAREST]
        images = np.asarray(raw["image"])
        titles = [f"{number}\nnearest to {counts[number]}" for number in chosen]
        return {"prototype": titles, **{f"image {rank + 1}": images[row] for rank, row in enumerate(nearest)}}
