"""Sources of clips of video and of stereo pairs: rows of arrays that may lie on disk."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from kzoo.data import Batch, Source
from kzoo.data.source import shuffled
from kzoo_temporal.data.memory import give_back


def video_source(
    name: str,
    pixels: np.ndarray,
    seconds: np.ndarray,
    first: np.ndarray,
    length: int,
    clip: np.ndarray,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    **facts: Any,
) -> Source:
    """Clips of some frames that follow each other. The id is the place in `first`.

    pixels: uint8 `[N, H, W, C]`, all frames; a memory map is read a clip at a time. seconds: `[N]`, when each is shown
    in its file. first: `[n]`, the frame that each clip begins with. length: frames of a clip. clip: `[n]`, the number
    of the video that each is of, a shot or a file. labels: `[n]`. facts: further fields of the source.
    """
    rows = np.asarray(first)[:, None] + np.arange(length)
    columns = {"time": np.asarray(seconds, np.float32), "clip": np.asarray(clip, np.int64)}
    shape = pixels.shape[1:]

    def read(number: np.ndarray) -> np.ndarray:
        found = np.asarray(pixels[rows[number]])
        give_back(pixels)
        return found

    def further(number: tf.Tensor) -> Batch:
        return {
            "time": tf.gather(tf.constant(columns["time"]), tf.gather(tf.constant(rows), number)),
            "clip": tf.gather(tf.constant(columns["clip"]), number),
        }

    source = _rows(name, len(rows), {"video": (read, (length, *shape))}, further, labels, classes, **facts)
    return replace(source, image_shape=tuple(shape), length=length, modality="video")


def stereo_source(
    name: str,
    left: np.ndarray,
    right: np.ndarray,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    more: Mapping[str, np.ndarray] | None = None,
    **facts: Any,
) -> Source:
    """Rectified pairs: a point at column x of the left picture lies at x - d, d >= 0, in the same row of the right one.

    left, right: uint8 `[n, H, W, C]`. more: further columns of n rows: "intrinsics" `[n, 4]`, focal lengths and centre
    (fx, fy, cx, cy) as shares of width and height; "disparity" float32 `[n, H, W]`, in pixels, 0 where it is not known.
    """

    def further(number: tf.Tensor) -> Batch:
        return {key: tf.gather(tf.constant(column), number) for key, column in (more or {}).items()}

    shape = left.shape[1:]
    columns = {"left": (lambda number: left[number], shape), "right": (lambda number: right[number], shape)}
    source = _rows(name, len(left), columns, further, labels, classes, **facts)
    return replace(source, image_shape=tuple(shape), modality="stereo")


def digest_of(*parts: Any) -> str:
    """SHA-256 of arrays, and of whatever else by its representation."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()


def _rows(
    name: str,
    size: int,
    pictures: Mapping[str, tuple[Callable[[np.ndarray], np.ndarray], tuple[int, ...]]],
    further: Callable[[tf.Tensor], Batch],
    labels: np.ndarray | None,
    classes: Sequence[str],
    **facts: Any,
) -> Source:
    """A source whose raw elements are row numbers. pictures: by name, how rows are read, and the shape of one."""
    numbers = np.full(size, -1, np.int64) if labels is None else np.asarray(labels, np.int64)

    def examples(seed: int | tf.Tensor | None = None) -> tf.data.Dataset:
        if seed is None:
            return tf.data.Dataset.range(size)
        return shuffled(lambda _: tf.data.Dataset.range(size), size, seed)

    def decode(number: tf.Tensor) -> Batch:
        batch = {"id": number, "label": tf.gather(tf.constant(numbers), number), **further(number)}
        for key, (read, shape) in pictures.items():
            pixels = tf.numpy_function(read, [number], tf.uint8, stateful=False)
            batch[key] = tf.ensure_shape(pixels, [*number.shape, *shape])
        return batch

    return Source(name, size, tuple(classes), (), examples, decode, batched=True, **facts)
