"""Shuffle and Learn (Misra, Zitnick, Hebert, "Shuffle and learn: unsupervised learning using temporal order
verification", ECCV 2016).
"""

import math

import numpy as np
import tensorflow as tf

from kzoo import augment
from kzoo.data import Source, training_stream
from kzoo.errors import OptionsError
from kzoo.layers import mlp_head
from kzoo.losses import accuracy, cross_entropy
from kzoo.method import Batch, Logs, Method
from kzoo.random import bernoulli, fold_in, integers, uniform
from kzoo_temporal.options import ShuffleAndLearnOptions
from kzoo_temporal.parts.frames import flat

_ASKED = 2000  # clips, about, that the figures of order are asked of


class ShuffleAndLearn(Method):
    """Are three frames in the order of time?

    Of a clip five frames a < b < c < d < e are taken: b and d at most `tau_max` frames apart, a and e at least
    `tau_min` outside of them, the window (b, d) drawn the likelier the more moves in it. (b, c, d) is in order;
    (b, a, d) and (b, e, d) are not, and differ from it in the middle frame alone. A quarter of the tuples are in order.
    Either way a tuple may come backwards: the order is one up to its direction.

    Frames `[3B, h, w, C]`, one crop and flip for the three -> backbone -> `[B, 3, D]`, less their mean -> `[B, 3D]` ->
    a layer of 2 logits -> cross-entropy. Who always says "no" is right three times in four, and the prior costs 0.5623.

    Deviations: what moves is measured by the normal flow, not by an optical flow; no channel splitting. Between the
    joined frames and the logits there may be hidden layers (`hidden`), batch-normalised; the authors' fc8 is one alone:
    with the linear output of a small backbone, a sum over frames cannot compare them. What three frames have in common
    says nothing of their order, and is most of what they are: its mean is taken away, which a first layer could do too.
    """

    options: ShuffleAndLearnOptions

    @staticmethod
    def choose(known: Batch, seed: tf.Tensor, options: ShuffleAndLearnOptions) -> Batch:
        """The numbers of the three frames, int32 `[B, 3]`, and whether they are "ordered", int32 `[B]`."""
        moved = known["motion"]
        length, near, far = moved.shape[1] + 1, options.tau_min, options.tau_max
        windows = [(b, d) for b in range(near, length) for d in range(b + 2, min(b + far, length - near - 1) + 1)]
        if not windows:
            least = 2 * near + 3
            raise OptionsError([f"shuffle_and_learn: clips of {length} frames; tau_min {near} needs at least {least}"])
        inside = np.array([[(b <= t < d) / (d - b) for b, d in windows] for t in range(length - 1)], np.float32)
        weights = tf.cumsum(tf.matmul(moved, inside) + 1e-6, axis=1)
        at = uniform(fold_in(seed, "window"))[:, None] * weights[:, -1:]
        b, d = tf.unstack(
            tf.gather(tf.constant(windows), tf.reduce_sum(tf.cast(weights[:, :-1] <= at, tf.int32), 1)), axis=1
        )
        c = integers(fold_in(seed, "between"), (), b + 1, d)
        a = integers(fold_in(seed, "before"), (), 0, b - near + 1)
        e = integers(fold_in(seed, "after"), (), d + near, length)
        ordered = bernoulli(fold_in(seed, "ordered"), options.positives)
        middle = tf.where(ordered, c, tf.where(bernoulli(fold_in(seed, "side"), 0.5), a, e))
        backwards = bernoulli(fold_in(seed, "backwards"), 0.5)
        ends = tf.where(backwards, d, b), tf.where(backwards, b, d)
        return {"frame": tf.stack([ends[0], middle, ends[1]], axis=1), "ordered": tf.cast(ordered, tf.int32)}

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: ShuffleAndLearnOptions) -> Batch:
        three = flat(batch["video"])
        size = options.size or three.shape[1:3]
        frames = augment.random_resized_crop(three, tf.repeat(seed, 3), size, options.scale, flip=options.flip)
        return {"frames": frames, "ordered": batch["ordered"]}

    def build_heads(self) -> None:
        self.head = mlp_head([*self.options.hidden, 2], hidden_norm=True, name="head")
        self.head.build((None, 3 * self.width))

    def forward(self, batch: Batch, training: bool) -> Batch:
        embedded = tf.reshape(self.embed(batch["frames"], training), [-1, 3, self.width])
        apart = embedded - tf.reduce_mean(embedded, axis=1, keepdims=True)
        return {"logits": self.head(tf.reshape(apart, [-1, 3 * self.width]), training=training)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        logits, ordered = outputs["logits"], batch["ordered"]
        return {"loss": cross_entropy(logits, ordered), "accuracy": accuracy(logits, ordered)}

    def chance(self) -> dict[str, float]:
        p = self.options.positives
        return {"loss": -p * math.log(p) - (1 - p) * math.log(1 - p), "accuracy": max(p, 1 - p)}

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """Of clips that were held out: "order_accuracy", to be compared with "order_prior", the accuracy of who always
        gives the more frequent answer; and "order_auc", how often a tuple in order gets the higher score of two, one
        of which is: 0.5 without learning.
        """
        source = test or train
        size = min(64, source.size)
        answer = tf.function(lambda batch: self.forward(batch, training=False)["logits"], autograph=False)
        stream = training_stream(source, self.transform, batch_size=size, seed=0).take(-(-_ASKED // size))
        found = [(np.asarray(answer(batch)), np.asarray(batch["ordered"])) for batch in stream]
        logits, ordered = (np.concatenate(column) for column in zip(*found, strict=True))
        score = logits[:, 1] - logits[:, 0]
        yes, no = score[ordered == 1], score[ordered == 0]
        wins = (yes[:, None] > no).mean() + 0.5 * (yes[:, None] == no).mean()
        return {
            "order_accuracy": float(((score > 0) == ordered).mean()),
            "order_prior": float(max(ordered.mean(), 1 - ordered.mean())),
            "order_auc": float(wins),
        }

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        shares = tf.nn.softmax(self.forward(batch, training=False)["logits"])[:, 1].numpy()
        true = np.where(batch["ordered"].numpy(), "in order", "shuffled")
        frames = {name: batch["frames"][number::3].numpy() for number, name in enumerate(("first", "middle", "last"))}
        said = [f"truth: {one}\npredicted: {share:.0%} in order" for one, share in zip(true, shares, strict=True)]
        return {**frames, "order": said}
