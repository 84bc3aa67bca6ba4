"""Time-contrastive networks (Sermanet, Lynch, Chebotar, Hsu, Jang, Schaal, Levine, "Time-contrastive networks:
self-supervised learning from video", ICRA 2018), single view.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, replicas
from kzoo.data import Source
from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization, Dropout
from kzoo.losses import full_precision, l2_normalize
from kzoo.method import Batch, Logs, Method
from kzoo.random import example_keys, fold_in, integers
from kzoo_temporal.options import TimeContrastiveOptions
from kzoo_temporal.parts.frames import flat, frame_keys, whole_videos
from kzoo_temporal.parts.spatial import SpatialSoftmax

_FAR = 1e9  # a squared distance that no embedding has
_VIEWS = 4  # pairs of views of a video that the figures are asked of


class TimeContrastive(Method):
    """Frames that are near in time are near, those that are not are far, though they look alike.

    Each example is one sequence of T frames. A frame's positives are those at most `radius` frames away, its negatives
    those more than twice that; what lies between is neither. Frames `[BT, h, w, C]`, each with a view of its own ->
    the backbone's map -> 3 x 3 convolutions, batch-normalised -> spatial softmax, where in the picture each channel is
    -> Dense -> Dense `[BT, 32]`.

    "triplet": the mean over all positive pairs of max(0, D_ap - D_an + margin), D the squared distance of unit vectors,
    n the nearest negative that is farther than the positive, and where there is none, the farthest one (semi-hard).
    "npairs": some anchors of a clip, so far apart that none is near another's positive, and one positive drawn for
    each; cross-entropy of the dot products, and a quarter of `regularise` times the mean squared lengths.

    Deviations: the backbone is trained with the rest, where the authors freeze an Inception-v3 of ImageNet; one camera,
    for which all positives of a frame count, not one drawn. Weight decay is the optimizer's.
    """

    options: TimeContrastiveOptions

    @staticmethod
    def choose(known: Batch, seed: tf.Tensor, options: TimeContrastiveOptions) -> Batch:
        """Of npairs the anchors and then their positives; of triplet all frames."""
        length, radius = known["time"].shape[1], options.radius
        needed = 2 * radius + 2 if options.loss == "triplet" else 2 * (3 * radius + 1)
        if length < needed:
            raise OptionsError(
                [f"time_contrastive: clips of {length} frames are too short for a radius of {radius}; {needed} will do"]
            )
        if options.loss == "triplet":
            return {}
        return {"frame": tf.concat(TimeContrastive.draw_pairs(seed, length, radius), axis=1)}

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: TimeContrastiveOptions) -> Batch:
        frames = flat(batch["video"])
        size, keys = options.size or frames.shape[1:3], frame_keys(seed, batch["video"].shape[1])
        views = augment.view(frames, keys, size, **options.view.model_dump())
        return {"frames": views, "clip": batch["clip"], "time": batch["time"]}

    @staticmethod
    def draw_pairs(seed: tf.Tensor, length: int, radius: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The numbers of anchors and of their positives, int32 `[B, K]`: anchors lie 3 radius + 1 apart."""
        apart = 3 * radius + 1
        anchor = integers(fold_in(seed, "anchor"), (1,), 0, apart) + apart * tf.range(length // apart)
        away = integers(fold_in(seed, "positive"), (length // apart,), 1, 2 * radius + 1)
        away = tf.where(away > radius, radius - away, away)
        outside = (anchor + away < 0) | (anchor + away >= length)
        return anchor, anchor + tf.where(outside, -away, away)

    def build_heads(self) -> None:
        options = self.options
        x = inputs = keras.Input(self.backbone.output["map"].shape[1:], name="map")
        for index, width in enumerate(options.convolutions):
            x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"conv_{index}")(x)
            x = keras.layers.ReLU(name=f"relu_{index}")(BatchNormalization(name=f"conv_norm_{index}")(x))
        x = SpatialSoftmax(name="spatial_softmax")(x)
        x = keras.layers.Dense(options.hidden, use_bias=False, name="hidden")(x)
        x = keras.layers.ReLU(name="relu")(BatchNormalization(name="hidden_norm")(x))
        x = Dropout(options.dropout, name="time_contrastive_dropout")(x)
        self.head = keras.Model(inputs, keras.layers.Dense(options.width, name="embedding")(x), name="head")

    def forward(self, batch: Batch, training: bool) -> Batch:
        maps = self.backbone(batch["frames"], training=training)["map"]
        embedded = self.head(maps, training=training)
        length = tf.shape(embedded)[0] // tf.shape(batch["clip"])[0]
        return {"embedded": tf.reshape(embedded, [-1, length, self.options.width])}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        embedded = full_precision(outputs["embedded"])
        if self.options.loss == "npairs":
            return self.n_pairs(*tf.split(embedded, 2, axis=1))
        unit, clip = l2_normalize(embedded), batch["clip"]
        positive, negative = masks(unit.shape[1] or tf.shape(unit)[1], self.options.radius)
        others, far = unit, tf.repeat(negative[None], tf.shape(unit)[0], axis=0)
        if self.options.other_sequences:
            everyone, theirs = replicas.gather(unit), replicas.gather(clip)
            elsewhere = tf.repeat(clip[:, None] != theirs, tf.shape(unit)[1], axis=1)[:, None]
            far = tf.concat([far, tf.repeat(elsewhere, tf.shape(unit)[1], axis=1)], axis=2)
            every = tf.repeat(tf.reshape(everyone, [1, -1, unit.shape[-1]]), tf.shape(unit)[0], axis=0)
            others = tf.concat([unit, every], axis=1)
        return semi_hard(distances(unit, unit), distances(unit, others), positive, far, self.options.margin)

    def n_pairs(self, anchors: tf.Tensor, positives: tf.Tensor) -> Logs:
        """anchors, positives: `[b, K, d]`, not normalised; those of one clip are compared. All equal: log K."""
        similar = tf.matmul(anchors, positives, transpose_b=True)
        size = tf.shape(similar)[1]
        own = tf.repeat(tf.range(size)[None], tf.shape(similar)[0], axis=0)
        lengths = sum(tf.reduce_mean(tf.reduce_sum(tf.square(x), axis=-1)) for x in (anchors, positives))
        crossed = tf.nn.sparse_softmax_cross_entropy_with_logits(own, similar)
        found = tf.cast(tf.argmax(similar, axis=-1, output_type=tf.int32) == own, crossed.dtype)
        loss = tf.reduce_mean(crossed) + 0.25 * self.options.regularise * lengths
        return {"loss": loss, "accuracy": tf.reduce_mean(found)}

    def chance(self) -> dict[str, float]:
        if self.options.loss == "triplet":
            return {"loss": self.options.margin}
        length = self.data.element["video"][0][0] if self.data.element else 0
        pairs = max(1, length // (3 * self.options.radius + 1))
        return {"loss": math.log(pairs), "accuracy": 1 / pairs}

    def embed_frames(self, frames: np.ndarray, backbone: keras.Model, head: keras.Model) -> np.ndarray:
        """`[n, width]` of float pictures in [0, 1], by this network or another of the same form."""
        parts = [
            head(backbone(part, training=False)["map"], training=False).numpy()
            for part in np.array_split(frames, max(1, len(frames) // 32))
        ]
        rows = np.concatenate(parts).astype("float64")
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if self.options.loss == "triplet" else rows

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """Two views of each held-out video, cropped and coloured otherwise: "alignment_error", how far in time from a
        frame of one its nearest in the other lies, as a share of the video (chance: about 1/3); "cycle", how often one
        comes back to the frame that it left from. Means over videos and over some pairs of views. The same for a
        network as it was drawn: "..._untrained".
        """
        fresh = [type(model).from_config(model.get_config()) for model in (self.backbone, self.head)]
        found: dict[str, list[float]] = {}
        settings, size = self.options.view.model_dump(), self.input_size
        videos = whole_videos(test or train)
        for number, video in enumerate(video for video in videos for _ in range(_VIEWS)):
            keys = example_keys(0, number, tf.zeros(len(video), tf.int64))  # one view for all frames
            views = [augment.view(video, fold_in(keys, name), size, **settings).numpy() for name in ("one", "other")]
            for title, models in (("", (self.backbone, self.head)), ("_untrained", fresh)):
                one, other = (self.embed_frames(view, *models) for view in views)
                error, cycle = alignment(one, other)
                found.setdefault(f"alignment_error{title}", []).append(error)
                found.setdefault(f"cycle{title}", []).append(cycle)
        return {name: float(np.mean(values)) for name, values in found.items()}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """Each clip's first frame, and of the others the one that is nearest and the one that is farthest."""
        unit = l2_normalize(self.forward(batch, training=False)["embedded"])
        rows, times = distances(unit, unit)[:, 0, 1:].numpy(), batch["time"].numpy()
        frames = batch["frames"].numpy().reshape(*rows.shape[:1], -1, *batch["frames"].shape[1:])
        near, far = rows.argmin(axis=1) + 1, rows.argmax(axis=1) + 1
        numbers = np.arange(len(rows))
        away = zip(times[numbers, near] - times[:, 0], times[numbers, far] - times[:, 0], strict=True)
        told = [f"nearest: {one:+.1f} s\nfarthest: {other:+.1f} s" for one, other in away]
        found = {"nearest": frames[numbers, near], "farthest": frames[numbers, far]}
        return {"first": frames[:, 0], **found, "frames": told}


def masks(length: int | tf.Tensor, radius: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Which frames are positives of each, and which negatives: two bool `[T, T]`."""
    apart = tf.abs(tf.range(length)[:, None] - tf.range(length))
    return (apart > 0) & (apart <= radius), apart > 2 * radius


def distances(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Squared distances `[b, n, m]` of unit rows `[b, n, d]` and `[b, m, d]`."""
    return tf.maximum(2.0 - 2.0 * tf.matmul(x, y, transpose_b=True), 0.0)


def semi_hard(own: tf.Tensor, every: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, margin: float) -> Logs:
    """The triplet loss. own: `[b, T, T]`, distances within a clip. every: `[b, T, M]`, those to all that may be
    negatives. positive: bool `[T, T]`. negative: bool `[b, T, M]`. Frames without negatives do not count.
    """
    to_negative = every[:, :, None]  # anchor, positive, negative
    farther = negative[:, :, None] & (to_negative > own[..., None])
    nearest = tf.reduce_min(tf.where(farther, to_negative, _FAR), axis=-1)
    farthest = tf.reduce_max(tf.where(negative, every, -_FAR), axis=-1)[..., None]
    chosen = tf.where(tf.reduce_any(farther, axis=-1), nearest, farthest)
    counted = tf.cast(positive & tf.reduce_any(negative, axis=-1)[..., None], own.dtype)
    pairs = tf.reduce_sum(counted, axis=[1, 2])
    costs = tf.reduce_sum(counted * tf.maximum(own - chosen + margin, 0.0), axis=[1, 2]) / tf.maximum(pairs, 1.0)
    solved = tf.reduce_sum(counted * tf.cast(own < chosen, own.dtype), axis=[1, 2]) / tf.maximum(pairs, 1.0)
    return {"loss": tf.reduce_mean(costs), "solved": tf.reduce_mean(solved)}


def alignment(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """How far from its own place the nearest row of another sequence lies, on average, as a share of the length; and
    the share of rows that come back to themselves. one, other: `[n, d]`, row i of both at the same time.
    """
    apart = np.square(one[:, None] - other).sum(axis=-1)
    there, places = apart.argmin(axis=1), np.arange(len(one))
    back = apart.argmin(axis=0)
    return float(np.abs(there - places).mean() / len(one)), float((back[there] == places).mean())
