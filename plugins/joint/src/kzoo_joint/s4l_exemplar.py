"""S4L-Exemplar (Zhai, Oliver, Kolesnikov, Beyer, "S4L: self-supervised semi-supervised learning", ICCV 2019)."""

import math

import tensorflow as tf

from kzoo import augment, losses, replicas
from kzoo.method import Batch, Logs
from kzoo.random import fold_in
from kzoo_joint.options import S4LExemplarOptions
from kzoo_joint.parts.classifier import Classifier, class_losses, head, mean_of_both

_FAR = 3.0  # beyond any distance of unit vectors


class S4LExemplar(Classifier):
    """Views of one image, labelled or not, must lie nearer to each other than to those of any other image; a labelled
    image also has a class.

    Images `[B, H, W, C]` -> `views` V random crops of each, mirrored, their colours bent in HSV, `[V B, h, w, C]`,
    those of an image together -> backbone `[V B, D]` -> two linear layers: classes `[V B, K]` and a projection
    `[V B, width]`, brought to unit norm.

    Loss: the mean cross-entropy of the classes over the views of the labelled images, plus `weight` times the mean of
    two means, over the labelled images and over the others: of log(1 + exp(the largest distance to a view of the same
    image - the least to another image's)), both among the views of their own kind in the global batch. Views that are
    all equal cost log K + log 2.

    Deviations: which views are of one image is told by its id, so that a labelled image that is in the batch twice is
    no negative of itself; the authors' code swaps two numbers there, and takes views of different images for one's.
    """

    options: S4LExemplarOptions
    least_examples = 2

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: S4LExemplarOptions) -> Batch:
        images, count = batch["image"], options.views
        keys = fold_in(tf.repeat(fold_in(seed, "views"), count), tf.tile(tf.range(count), tf.shape(seed)))
        size = options.size or images.shape[1]
        views = augment.random_resized_crop(
            tf.repeat(images, count, axis=0), keys, size, options.scale, flip=options.flip
        )
        if options.hsv:
            views = augment.hsv_power_jitter(views, keys)
        return {
            "image": views,
            "exemplar": tf.repeat(batch["id"], count),
            "label": tf.repeat(batch["label"], count),
        }

    def build_heads(self) -> None:
        super().build_heads()
        self.projector = head(self.width, self.options.width, "projection")

    def forward(self, batch: Batch, training: bool) -> Batch:
        embedding = self.embed(batch["image"], training)
        return {"classes": self.class_head(embedding), "projection": self.projector(embedding)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        entropies, hits, labelled = class_losses(outputs["classes"], batch["label"])
        class_loss = losses.mean_of(entropies, labelled)
        triplets, compared = batch_hard(losses.l2_normalize(outputs["projection"]), batch["exemplar"], labelled)
        triplet_loss = mean_of_both(triplets, labelled, compared)
        return {
            "loss": class_loss + self.options.weight * triplet_loss,
            "class_loss": class_loss,
            "triplet_loss": triplet_loss,
            "accuracy": losses.mean_of(hits, labelled),
        }

    def chance(self) -> dict[str, float]:
        classes = len(self.require_classes())
        return {"class_loss": math.log(classes), "accuracy": 1 / classes}


def batch_hard(projection: tf.Tensor, exemplar: tf.Tensor, labelled: tf.Tensor) -> tf.Tensor:
    """The soft margin between each view's farthest positive and nearest negative (Hermans et al. 2017), `[b]`; and
    whether it has a negative to compare with, bool `[b]`.

    Args:
        projection: unit-norm `[b, d]`. exemplar: int64 `[b]`, the image. labelled: bool `[b]`; views are compared with
            those of the same kind.
    """
    everything = replicas.gather(projection)
    distance = tf.sqrt(tf.maximum(2 - 2 * tf.matmul(projection, everything, transpose_b=True), 1e-12))
    same, alike = pairs(exemplar, labelled)
    itself = tf.one_hot(losses.own_columns(tf.shape(projection)[0]), tf.shape(everything)[0], True, False)
    positive = tf.reduce_max(tf.where(same & alike & ~itself, distance, 0), axis=1)
    negatives = ~same & alike
    negative = tf.reduce_min(tf.where(negatives, distance, _FAR), axis=1)
    return tf.nn.softplus(positive - negative), tf.reduce_any(negatives, axis=1)


def pairs(exemplar: tf.Tensor, labelled: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of each row of this replica with each of all: whether they are views of one image, and of one kind; `[b, B]`."""
    others = replicas.gather(tf.stack([exemplar, tf.cast(labelled, exemplar.dtype)], axis=1))
    kind = tf.cast(labelled, exemplar.dtype)
    return tf.equal(exemplar[:, None], others[:, 0]), tf.equal(kind[:, None], others[:, 1])
