"""Labels that are hidden from a method: which of them it sees, a fixed choice, and how much of each batch has one."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from kzoo.data.source import Batch, Source, as_written
from kzoo.errors import DataError, printable
from kzoo.random import fold_in, permutation

UNLABELLED = -1
_READ = 4096  # labels read at once


def labels_of(source: Source) -> np.ndarray:
    """The label of every example, int64 `[N]`, by id. TensorFlow leaves out what only pixels need."""

    @as_written
    def label(raw: Any) -> tf.Tensor:
        return source.decode(raw)["label"]

    raw = source.examples()
    batches = raw.batch(_READ).map(label) if source.batched else raw.map(label).batch(_READ)
    return np.concatenate(list(batches.as_numpy_iterator()))


def choose_labels(
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    seed: int,
    per_class: int | None = None,
    fraction: float | None = None,
) -> np.ndarray:
    """The ids of the examples whose labels are seen, int64, ascending: of each class as many, or the same fraction.

    They are those with the lowest hashes of seed and id, so the same data and seed give the same anywhere, and a
    smaller choice is part of a larger one. Of a class that has any, at least one. Both none: all that have a label.

    Raises DataError where a class has fewer than `per_class`.
    """
    chosen: list[int] = []
    for number, name in enumerate(classes):
        members = np.flatnonzero(labels == number).tolist()
        count = per_class or len(members)
        if fraction is not None:
            count = min(len(members), max(1, int(fraction * len(members) + 0.5)))
        if count > len(members):
            raise DataError(
                f"data.labels.per_class: {count:,} is more than the {len(members):,} labelled examples of class "
                f"'{printable(name)}'"
            )
        chosen += sorted(members, key=lambda member: _hash(seed, member))[:count]
    return np.sort(np.array(chosen, np.int64))


def hide_labels(source: Source, labelled: np.ndarray, share: float | None = None) -> Source:
    """The source with the label -1 but for some examples.

    labelled: their ids. share: of each batch of training that is drawn from them, again and again as needed; the rest
    of the batch is drawn from all examples, and has no labels. None: batches are drawn from all, as they come.

    Raises DataError where there are none to draw from.
    """
    if share is not None and not len(labelled):
        raise DataError(f"{source.name}: data.labels.share: no example has a label")
    mask = np.zeros(source.size, bool)
    mask[labelled] = True
    with tf.device("CPU:0"):
        seen = tf.constant(mask)

    def decode(raw: Any, *asked: Batch) -> Batch:
        batch = source.decode(raw, *asked)
        return {**batch, "label": tf.where(tf.gather(seen, batch["id"]), batch["label"], np.int64(UNLABELLED))}

    return replace(source, decode=decode, labelled=labelled, labelled_share=share)


def labelled_places(batch_size: int, share: float) -> np.ndarray:
    """Which places of a batch hold an example with a label, bool `[B]`: the rounded share, at least one, spread evenly
    so that the parts of replicas are alike.
    """
    count = max(1, int(batch_size * share + 0.5))
    ends = np.arange(1, batch_size + 1) * count // batch_size
    return np.diff(ends, prepend=0) > 0


def labelled_elements(source: Source) -> Any:
    """The raw elements of the examples whose labels are seen, stacked, in the order of their ids."""
    labelled = _labelled(source)
    mask = np.zeros(source.size, bool)
    mask[labelled] = True
    with tf.device("CPU:0"):
        wanted = tf.constant(mask)
        elements = source.examples().enumerate().filter(as_written(lambda place, raw: tf.gather(wanted, place)))
        elements = elements.map(as_written(lambda place, raw: raw)).batch(len(labelled))
        return elements.get_single_element()


def mixed_examples(
    source: Source, table: Any, places: np.ndarray, order: tf.Tensor, steps: int, first: tf.Tensor
) -> tf.data.Dataset:
    """Raw elements of the steps from `first` to `steps` of an epoch, batch after batch, as `places` says.

    Those with labels come from `table` (`labelled_elements`), in passes over all of them, each in an order of its own.
    order: the epoch's key.
    """
    count, size, held = int(places.sum()), len(places), len(_labelled(source))

    @as_written
    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        rows = permutation(fold_in(fold_in(order[None], "labelled"), number), held)[0]
        return tf.data.Dataset.from_tensor_slices(rows)

    @as_written
    def element(row: tf.Tensor) -> Any:
        return tf.nest.map_structure(lambda column: tf.gather(column, row), table)

    labelled = tf.data.Dataset.range(tf.int64.max).flat_map(one_pass).skip(first * count).map(element)
    others = source.examples(seed=order).skip(first * (size - count))
    choices = tf.data.Dataset.from_tensor_slices(places.astype("int64")).repeat(steps - first)
    return tf.data.Dataset.choose_from_datasets([others, labelled], choices)


def _labelled(source: Source) -> np.ndarray:
    return np.arange(source.size) if source.labelled is None else source.labelled


def _hash(seed: int, number: int) -> bytes:
    return hashlib.sha256(f"{seed}/{number}".encode()).digest()
