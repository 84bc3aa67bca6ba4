"""Sources of what is in memory: images and tokenised text, one row per example."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from kzoo.data.source import Batch, Source, shuffled
from kzoo.errors import DataError
from kzoo.text import SPECIAL

_DIGEST_BYTES = 64 << 20  # of one column that go into a digest: a tenth of a second


def array_source(
    name: str, images: np.ndarray, labels: Sequence[int] | np.ndarray | None = None, classes: Sequence[str] = ()
) -> Source:
    """A source of images that are in memory. The id of an example is its row.

    images: uint8 `[N, H, W, C]` with C 1 or 3. labels: N integers, -1 = unlabelled, else an index of `classes`; none:
    all unlabelled. Raises DataError where they are anything else.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise DataError(f"{name}: images must be uint8 [N, H, W, 1 or 3]; received {images.dtype} {list(images.shape)}")
    return _row_source(name, {"image": images}, labels, classes, image_shape=images.shape[1:])


def text_source(
    name: str,
    tokens: np.ndarray,
    vocabulary: Sequence[str],
    labels: Sequence[int] | np.ndarray | None = None,
    classes: Sequence[str] = (),
    more: Mapping[str, np.ndarray] | None = None,
) -> Source:
    """A source of tokenised text that is in memory. The id of an example is its row.

    tokens: int32 `[N, T]`, padded with `kzoo.text.PAD`. vocabulary: what each number stands for, beginning with
    `kzoo.text.SPECIAL`. labels, classes: as for images. more: further columns with N rows, such as the passage that
    follows each. Raises DataError where they are anything else.
    """
    tokens = np.asarray(tokens)
    if tokens.dtype != np.int32 or tokens.ndim != 2 or not tokens.size:
        raise DataError(f"{name}: tokens must be int32 [N, T]; received {tokens.dtype} {list(tokens.shape)}")
    if tuple(vocabulary[: len(SPECIAL)]) != SPECIAL:
        raise DataError(f"{name}: a vocabulary begins with {', '.join(SPECIAL)}; received {list(vocabulary[:5])}")
    if tokens.min() < 0 or tokens.max() >= len(vocabulary):
        raise DataError(
            f"{name}: tokens must lie in 0 to {len(vocabulary) - 1}; received {tokens.min()} to {tokens.max()}"
        )
    for key, column in (more or {}).items():
        if len(column) != len(tokens):
            raise DataError(f"{name}: '{key}' has {len(column)} rows for {len(tokens)} examples")
    columns = {"tokens": tokens, **(more or {})}
    return _row_source(
        name, columns, labels, classes, vocabulary=tuple(vocabulary), length=tokens.shape[1], modality="text"
    )


def _row_source(
    name: str,
    columns: Mapping[str, np.ndarray],
    labels: Sequence[int] | np.ndarray | None,
    classes: Sequence[str],
    image_shape: Any = (),
    **text: Any,
) -> Source:
    """A source whose example i is row i of every column."""
    size = len(next(iter(columns.values())))
    numbers = np.full(size, -1) if labels is None else np.asarray(labels)
    if numbers.shape != (size,) or not np.issubdtype(numbers.dtype, np.integer):
        raise DataError(f"{name}: labels must be {size} integers; received {numbers.dtype} {list(numbers.shape)}")
    if numbers.min() < -1 or numbers.max() >= len(classes):
        raise DataError(
            f"{name}: labels must lie in -1 to {len(classes) - 1}, for {len(classes)} classes; "
            f"received {numbers.min()} to {numbers.max()}"
        )
    with tf.device("CPU:0"):  # gathered in tf.data, which runs there
        tables = {key: tf.constant(column) for key, column in columns.items()}
        tables["label"] = tf.constant(numbers, tf.int64)

    def examples(seed: int | tf.Tensor | None = None) -> tf.data.Dataset:
        rows = partial(tf.data.Dataset.range, size)
        return rows() if seed is None else shuffled(lambda _: rows(), size, seed)

    def decode(index: tf.Tensor) -> Batch:
        rows = {"id": index, **{key: tf.gather(table, index) for key, table in tables.items()}}
        words = text.get("vocabulary")
        return {**rows, "vocabulary_size": tf.fill(tf.shape(index), len(words))} if words else rows

    digest = _array_digest({**columns, "label": numbers}, classes, text.get("vocabulary", ()))
    return Source(name, size, tuple(classes), image_shape, examples, decode, batched=True, digest=digest, **text)


def _array_digest(columns: Mapping[str, np.ndarray], *words: Sequence[str]) -> str:
    """SHA-256 of the columns and words; of a large column, of rows at even distances."""
    digest = hashlib.sha256(json.dumps([list(some) for some in words]).encode())
    for key, column in sorted(columns.items()):
        digest.update(f"{key} {column.dtype} {column.shape}".encode())
        step = -(-column.nbytes // _DIGEST_BYTES)
        digest.update(np.ascontiguousarray(column[::step]).tobytes())
    return digest.hexdigest()
