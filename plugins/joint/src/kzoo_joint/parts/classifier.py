"""What all methods of this family are: a classifier of images, of which some have no label."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, losses, replicas
from kzoo.data import Source, evaluation_batches, resize_and_crop, to_float
from kzoo.method import Batch, Method, Signature
from kzoo_joint.options import ClassifierOptions

_BATCH = 256  # images classified at once


class Classifier(Method):
    """A method with a head that names classes. Its export answers `classify`; its accuracy is told on the test split.

    Batches have "label", int64, -1 where an example has none. A subclass gives `class_logits`, or uses the head here.
    """

    options: Any

    def build_heads(self) -> None:
        self.class_head = head(self.width, len(self.require_classes()), "classes")

    def class_logits(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Logits `[B, K]` of float images in [0, 1]: what is served, and what the accuracy is of."""
        return self.class_head(self.embed(inputs, training))

    def signatures(self) -> dict[str, Signature]:
        return {"classify": self.classify}

    def classify(self, inputs: tf.Tensor) -> Batch:
        """The probabilities of the classes, `[B, K]`, in sum 1, and the names that they are of."""
        probabilities = tf.nn.softmax(losses.full_precision(self.class_logits(inputs)))
        names = tf.constant(self.require_classes())[None]
        return {"probabilities": probabilities, "classes": tf.tile(names, [tf.shape(probabilities)[0], 1])}

    def answers(self) -> dict[str, Callable[[tf.Tensor], tf.Tensor]]:
        """The ways to name a class, by the name of the figure that says how often it is right."""
        return {"test_accuracy": self.class_logits}

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """The share of the test split's labelled examples that is classified rightly."""
        return {name: accuracy_on(test, self, answer) for name, answer in self.answers().items()} if test else {}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        if "image" not in batch:
            return {}
        copies = len(batch["image"]) // len(raw["id"])
        images, names = batch["image"][::copies], self.require_classes()
        said = np.argmax(self.class_logits(images), axis=1)
        true = np.asarray(raw["label"])
        pairs = zip(said, true, strict=True)
        captions = [names[a] if a == b or b < 0 else f"{names[a]},\nnot {names[b]}" for a, b in pairs]
        return {"image": np.asarray(images), "class": captions}


def head(width: int, outputs: int, name: str) -> keras.layers.Dense:
    """A linear layer on embeddings `[B, width]`, built; drawn as torch does: answers begin nearly uniform."""
    drawn = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    layer = keras.layers.Dense(outputs, kernel_initializer=drawn, name=name)
    layer.build((None, width))
    return layer


def shown(images: tf.Tensor, seed: tf.Tensor, options: ClassifierOptions) -> tf.Tensor:
    """Each image once, cropped and mirrored at random: float `[B, h, w, C]` in [0, 1]."""
    size = options.size or images.shape[1]
    if options.crop == "resized":
        return augment.random_resized_crop(images, seed, size, flip=options.flip)
    return augment.pad_crop(
        resize_and_crop(to_float(images), size), seed, padding=options.padding, mode="reflect", flip=options.flip
    )


def class_losses(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Of each row: its cross-entropy, whether the largest logit is right, and whether it has a label at all."""
    labelled = labels >= 0
    safe = tf.maximum(labels, 0)
    entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=safe, logits=logits)
    hits = tf.cast(tf.equal(tf.argmax(logits, axis=1, output_type=labels.dtype), safe), logits.dtype)
    return entropies, hits, labelled


def mean_of_both(values: tf.Tensor, labelled: tf.Tensor, counted: tf.Tensor | None = None) -> tf.Tensor:
    """The mean of two means: over the rows with a label, and over those without; where one has no rows, the other.

    counted: bool `[b]`, the rows that count at all; by default all.
    """
    every = tf.ones_like(labelled) if counted is None else counted
    groups = (labelled & every, ~labelled & every)
    sizes = replicas.total([tf.reduce_sum(tf.cast(group, values.dtype)) for group in groups])
    present = sum(tf.cast(size > 0, values.dtype) for size in sizes)
    return sum(losses.mean_of(values, group) for group in groups) / tf.maximum(present, 1)


def accuracy_on(source: Source, method: Classifier, answer: Callable[[tf.Tensor], tf.Tensor]) -> float:
    """The share of the labelled examples of a source that an answer names rightly; NaN where there are none."""
    infer = tf.function(answer, autograph=False)
    hits, count = 0, 0
    size = method.input_size if source.modality == "image" else None
    for batch in evaluation_batches(source, _BATCH, size):
        labels = batch["label"].numpy()
        said = np.argmax(infer(batch["image"] if "image" in batch else batch["tokens"]), axis=1)
        hits += int(np.sum((said == labels) & (labels >= 0)))
        count += int(np.sum(labels >= 0))
    return hits / count if count else float("nan")
