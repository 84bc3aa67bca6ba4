"""MoCo v1 (He, Fan, Wu, Xie, Girshick, "Momentum contrast", CVPR 2020)."""

import math
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import tensorflow as tf

from kzoo import augment, losses, replicas
from kzoo.errors import StrategyError
from kzoo.layers import mlp_head, split_batch_statistics
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in
from kzoo.state import EMATeacher, Queue
from kzoo_contrastive.parts.matches import matches
from kzoo_contrastive.specs.moco_v1 import MoCoV1Options


class MoCoV1(Method):
    """A query must find its key, encoded by a slowly moving copy of the encoder, among a queue of earlier keys.

    Query and key view `[B, h, w, C]` -> encoder and key encoder -> Dense `[B, 128]` -> unit norm -> InfoNCE with
    `queue` negatives. The step keeps the authors' order: the key encoder moves first, towards the weights from before
    this step's update; then the keys; then the loss; the keys join the queue last, so none is its own negative.

    Batch statistics would tell a query which key is its own. The paper hides that by shuffling the keys over the
    devices (shuffle BN), the authors' CIFAR demo by splitting the batch on one device (split BN). Here both are one
    thing: the global batch is cut in `groups` parts with statistics of their own, the keys in a random order, and every
    replica holds some of the parts; so the result does not depend on the number of replicas. Where a batch is
    accumulated in parts, each part holds some of the groups of the queries.

    Memory: the queue takes `queue` x 128 x 4 bytes on every replica, 34 MB by default, and each step reads a copy.
    """

    options: MoCoV1Options

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: MoCoV1Options) -> Batch:
        size = options.size or batch["image"].shape[1]
        view = options.view.model_dump()
        return {
            "query": augment.view(batch["image"], fold_in(seed, "query"), size, **view),
            "key": augment.view(batch["image"], fold_in(seed, "key"), size, **view),
        }

    def build_heads(self) -> None:
        self.projector = mlp_head(self.options.projector, name="projector")
        self.projector.build((None, self.width))
        self.key_encoder = EMATeacher([self.backbone, self.projector], name="key_encoder")
        self.queue = Queue(self.options.queue, self.options.projector[-1])

    def train_step(self, batch: Batch) -> Logs:
        self.key_encoder.update(self.options.momentum)
        keys = self.encode_keys(batch)
        logs = self.minimise({**batch, "keys": keys})
        self.queue.enqueue(keys)
        return logs

    def encode_keys(self, batch: Batch) -> tf.Tensor:
        """Unit-norm keys `[b, d]` of the key views, encoded in another order than the queries'."""
        shuffled, order = self.shuffle(batch["key"], batch["seed"])
        with self.batch_statistics(shuffled.shape[0]):
            keys = losses.l2_normalize(self.key_encoder(shuffled, training=True))
        return self.unshuffle(keys, order)

    def shuffle(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """This replica's share of the global batch in a random order, and that order, int32 `[B]`."""
        # the examples' keys give the same order on every replica, another one each step
        order = tf.argsort(fold_in(replicas.gather(seed), "shuffle"), stable=True)
        mine = tf.gather(order, losses.own_columns(tf.shape(x)[0]))
        return tf.gather(replicas.gather(x), mine), order

    def unshuffle(self, x: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
        """Put `x` of all replicas back in the order of the batch; returns this replica's share."""
        mine = tf.gather(tf.math.invert_permutation(order), losses.own_columns(tf.shape(x)[0]))
        return tf.gather(replicas.gather(x), mine)

    def batch_statistics(self, examples: int | None, parts: int = 1) -> AbstractContextManager[None]:
        """Batch statistics per group of the global batch; over all of it where they are shared.

        examples: of this replica that are encoded in one pass. parts: passes that the batch is cut in.
        """
        if self.options.batch_norm == "shared":
            return nullcontext()
        shares = replicas.count() * parts
        groups, rest = divmod(self.options.groups, shares)
        if rest or not groups:
            over = f"{replicas.count()} replicas" + (f" x {parts} accumulated parts" if parts > 1 else "")
            raise StrategyError(f"method.options.groups: {self.options.groups} groups do not divide over {over}")
        if examples is not None and examples % groups:
            raise StrategyError(
                f"train.batch_size: {examples * shares} does not divide by {self.options.groups}, method.options.groups"
            )
        return split_batch_statistics(groups)

    def forward(self, batch: Batch, training: bool) -> Batch:
        statistics = self.batch_statistics(batch["query"].shape[0], self.accumulate) if training else nullcontext()
        with statistics:
            query = self.projector(self.embed(batch["query"], training), training=training)
        return {"query": losses.l2_normalize(query)}

    def keys(self, batch: Batch) -> tf.Tensor:
        """The keys that the step made, or those that the key encoder makes of held-out examples."""
        return batch["keys"] if "keys" in batch else losses.l2_normalize(self.key_encoder(batch["key"], training=False))

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """InfoNCE (equation 1), the key in column 0. All logits equal: log(queue + 1); decoupled: log(queue)."""
        negatives = self.queue.read()
        logits = losses.info_nce_logits(outputs["query"], self.keys(batch), negatives, self.options.temperature)
        labels = tf.zeros(tf.shape(logits)[0], tf.int32)
        contrast = losses.decoupled_cross_entropy if self.options.decoupled else losses.cross_entropy
        return {"loss": contrast(logits, labels), "accuracy": losses.accuracy(logits, labels)}

    def chance(self) -> dict[str, float]:
        """All logits equal."""
        queue = self.options.queue
        return {"loss": math.log(queue if self.options.decoupled else queue + 1), "accuracy": 1 / (queue + 1)}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """Which key of the batch is most like each query."""
        query = self.forward(batch, training=False)["query"]
        return matches(("query", batch["query"], query), ("key", batch["key"], self.keys(batch)))
