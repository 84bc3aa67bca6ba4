"""Siamese-triplet network on tracked patches (Wang, Gupta, "Unsupervised learning of visual representations using
videos", ICCV 2015).
"""

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, replicas
from kzoo.data import Source, to_float
from kzoo.losses import l2_normalize
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in, uniform
from kzoo_temporal.options import SiameseTripletOptions

_ASKED = 256  # tracks, about, that the figures of retrieval are asked of


class SiameseTriplet(Method):
    """A patch and what became of it in the same video are near; patches of other videos are far from both.

    Of a track, or of any clip, the first patch x and the last one x+, each a crop of its own, `[B, h, w, C]` ->
    backbone -> two layers with ReLU -> unit vectors; D is 1 - their cosine. Negatives n are first and last patches of
    other videos in the batch. The loss is the mean over pairs, and over `negatives` of them for each, of

        (max(0, D(x, x+) - D(x, n) + margin) + max(0, D(x, x+) - D(x+, n) + margin)) / 2,

    two-sided as in the released code; one-sided in the paper. For the first `random_epochs` negatives are drawn at
    random, from then on those that cost most are taken. All embeddings alike: the margin. Pairs whose batch has no
    other video cost nothing.

    Deviations: the patches are followed by optical flow (the dataset `tracks`), the authors' by a correlation filter;
    negatives are those of all replicas. Weight decay is the optimizer's.
    """

    options: SiameseTripletOptions
    least_examples = 2

    @staticmethod
    def choose(known: Batch, seed: tf.Tensor, options: SiameseTripletOptions) -> Batch:
        last = known["time"].shape[1] - 1
        return {"frame": tf.repeat(tf.constant([[0, last]]), tf.shape(seed)[0], axis=0)}

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: SiameseTripletOptions) -> Batch:
        video = batch["video"]
        size = options.size or video.shape[2:4]
        ends = {
            name: augment.random_resized_crop(
                to_float(video[:, place]), fold_in(seed, name), size, options.scale, flip=options.flip
            )
            for name, place in (("first", 0), ("last", -1))
        }
        return {**ends, "clip": batch["clip"]}

    def build_heads(self) -> None:
        x = inputs = keras.Input((self.width,), name="embedding")
        for index, units in enumerate((*self.options.hidden, self.options.width)):
            x = keras.layers.Dense(units, activation="relu", name=f"dense_{index}")(x)
        self.head = keras.Model(inputs, x, name="head")

    def forward(self, batch: Batch, training: bool) -> Batch:
        embedded = self.embed(tf.concat([batch["first"], batch["last"]], axis=0), training)
        first, last = tf.split(l2_normalize(self.head(embedded, training=training)), 2)
        return {"first": first, "last": last}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """ "solved" is the share of the chosen negatives that lie farther from both patches than these do."""
        first, last = outputs["first"], outputs["last"]
        every = tf.concat([replicas.gather(first), replicas.gather(last)], axis=0)
        theirs, ids = (tf.tile(replicas.gather(batch[name]), [2]) for name in ("clip", "id"))
        together = 1.0 - tf.reduce_sum(first * last, axis=1, keepdims=True)
        apart = [1.0 - tf.matmul(own, every, transpose_b=True) for own in (first, last)]
        costs = sum(tf.maximum(together - one + self.options.margin, 0.0) for one in apart) / 2.0
        solved = tf.cast(together < tf.minimum(*apart), costs.dtype)
        other = batch["clip"][:, None] != theirs
        scores = tf.where(other, self._scores(costs, batch["seed"], ids), -1.0)
        known = scores.shape[1]
        _, chosen = tf.math.top_k(scores, min(self.options.negatives, known) if known else self.options.negatives)
        counted = tf.cast(tf.gather(other, chosen, batch_dims=1), costs.dtype)
        number = tf.maximum(tf.reduce_sum(counted, axis=1), 1.0)

        def mean(values: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(tf.reduce_sum(counted * tf.gather(values, chosen, batch_dims=1), axis=1) / number)

        return {"loss": mean(costs), "solved": mean(solved)}

    def _scores(self, costs: tf.Tensor, keys: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """How much each candidate is wanted as a negative, `[b, n]`, at least 0: at first by chance, then by its cost.

        What is drawn depends on both examples alone, so that it is the same on any number of replicas.
        """
        pairs, candidates = tf.shape(costs)[0], tf.shape(costs)[1]
        side = tf.range(candidates) * 2 // candidates  # first or last patch of an example
        names = tf.tile(2 * ids + tf.cast(side, ids.dtype), [pairs])
        drawn = tf.reshape(uniform(fold_in(tf.repeat(fold_in(keys, "negatives"), candidates), names)), tf.shape(costs))
        return tf.where(self.epoch() < self.options.random_epochs, tf.cast(drawn, costs.dtype), tf.stop_gradient(costs))

    def chance(self) -> dict[str, float]:
        return {"loss": self.options.margin}

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """Of held-out tracks: "retrieval", how often, of the last patches of all, the nearest to a first patch is that
        of its own track; "told_apart", the same where of the others those of other videos count alone, as in training.
        Beside them "..._untrained", by a network as it was drawn, and "retrieval_chance".
        """
        source = test or train
        rows = np.unique(np.linspace(0, source.size - 1, min(_ASKED, source.size)).astype(np.int64))
        batch = source.decode(tf.constant(rows))
        video, clip = to_float(batch["video"]), batch["clip"].numpy()
        if self.options.size:
            video = tf.stack([tf.image.resize(video[:, end], [self.options.size] * 2) for end in (0, -1)], axis=1)
        fresh = [type(model).from_config(model.get_config()) for model in (self.backbone, self.head)]
        figures = {"retrieval_chance": 1 / len(rows)}
        for title, models in (("", (self.backbone, self.head)), ("_untrained", fresh)):
            first, last = (_embedded(video[:, end], *models) for end in (0, -1))
            figures[f"retrieval{title}"] = retrieval(first, last)
            figures[f"told_apart{title}"] = retrieval(first, last, clip)
        return figures

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """Each first patch, what became of it, and of the others' last patches the one that is nearest."""
        outputs = self.forward(batch, training=False)
        near = outputs["first"].numpy() @ outputs["last"].numpy().T
        own = near.diagonal().copy()
        np.fill_diagonal(near, -2)
        other = near.argmax(axis=1)
        said = [f"own: {a:.2f}\nother: {b:.2f}" for a, b in zip(own, near.max(axis=1), strict=True)]
        last = batch["last"].numpy()
        return {"first": batch["first"].numpy(), "last": last, "nearest other": last[other], "cosine": said}


def retrieval(first: np.ndarray, last: np.ndarray, clip: np.ndarray | None = None) -> float:
    """How often row i of `last` is the most alike, by its product, to row i of `first`; of all rows, or, where it is
    told which video each is of, of row i and those of other videos.
    """
    alike = first @ last.T
    if clip is not None:
        alike = np.where((clip[:, None] == clip) & ~np.eye(len(clip), dtype=bool), -np.inf, alike)
    return float((alike.argmax(axis=1) == np.arange(len(first))).mean())


def _embedded(images: tf.Tensor, backbone: keras.Model, head: keras.Model) -> np.ndarray:
    parts = [images[start : start + 64] for start in range(0, len(images), 64)]
    found = [head(backbone(part, training=False)["embedding"], training=False) for part in parts]
    return l2_normalize(tf.concat(found, axis=0)).numpy()
