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
from kzoo_temporal.parts.frames import motion

_TOGETHER = 256  # frames between which motion is measured at once


def video_source(
    name: str,
    pixels: np.ndarray,
    seconds: np.ndarray,
    first: np.ndarray,
    length: int,
    clip: np.ndarray,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    moved: np.ndarray | None = None,
    **facts: Any,
) -> Source:
    """Clips of some frames that follow each other. The id is the place in `first`.

    pixels: uint8 `[N, H, W, C]`, all frames; a memory map is read a clip at a time. seconds: `[N]`, when each is shown
    in its file. first: `[n]`, the frame that each clip begins with. length: frames of a clip. clip: `[n]`, the number
    of the video that each is of, a shot or a file. labels: `[n]`. moved: `[N]`, `motion` from each frame to the next;
    none: measured now. facts: further fields of the source.

    A method may ask for some frames (`Method.choose`): no other is read.
    """
    rows = np.asarray(first)[:, None] + np.arange(length)
    seconds, clip = np.asarray(seconds, np.float32), np.asarray(clip, np.int64)
    shape, moved = pixels.shape[1:], measured(pixels) if moved is None else moved

    def read(chosen: np.ndarray) -> np.ndarray:
        found = np.asarray(pixels[chosen])
        give_back(pixels)
        return found

    def frames(number: tf.Tensor, asked: Batch | None = None) -> Batch:
        every = tf.gather(tf.constant(rows), number)
        frame = (asked or {}).get("frame")
        chosen = every if frame is None else tf.gather(every, frame, batch_dims=number.shape.rank)
        return {
            "video": _read(read, chosen, shape),
            "time": tf.gather(tf.constant(seconds), chosen),
            "motion": tf.gather(tf.constant(moved), every[..., :-1]),
            "clip": tf.gather(tf.constant(clip), number),
        }

    source = _rows(name, len(rows), frames, labels, classes, **facts)
    return replace(source, image_shape=tuple(shape), length=length, modality="video", chooses=True)


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

    shape = left.shape[1:]

    def pair(number: tf.Tensor) -> Batch:
        sides = {"left": left, "right": right}
        return {
            **{key: _read(lambda row, side=side: side[row], number, shape) for key, side in sides.items()},
            **{key: tf.gather(tf.constant(column), number) for key, column in (more or {}).items()},
        }

    source = _rows(name, len(left), pair, labels, classes, **facts)
    return replace(source, image_shape=tuple(shape), modality="stereo")


def measured(pixels: np.ndarray) -> np.ndarray:
    """`motion` from each frame of uint8 `[N, H, W, C]` to the next, float32 `[N]`; 0 for the last."""
    found = np.zeros(len(pixels), np.float32)
    for first in range(0, len(pixels) - 1, _TOGETHER):
        part = pixels[None, first : first + _TOGETHER + 1]
        found[first : first + part.shape[1] - 1] = motion(tf.constant(part))[0]
        give_back(pixels)
    return found


def digest_of(*parts: Any) -> str:
    """SHA-256 of arrays, and of whatever else by its representation."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()


def _rows(
    name: str,
    size: int,
    columns: Callable[..., Batch],
    labels: np.ndarray | None,
    classes: Sequence[str],
    **facts: Any,
) -> Source:
    """A source whose raw elements are row numbers. columns: from these, and what is asked for, to what they hold."""
    numbers = np.full(size, -1, np.int64) if labels is None else np.asarray(labels, np.int64)

    def examples(seed: int | tf.Tensor | None = None) -> tf.data.Dataset:
        if seed is None:
            return tf.data.Dataset.range(size)
        return shuffled(lambda _: tf.data.Dataset.range(size), size, seed)

    def decode(number: tf.Tensor, *asked: Batch) -> Batch:
        return {"id": number, "label": tf.gather(tf.constant(numbers), number), **columns(number, *asked)}

    return Source(name, size, tuple(classes), (), examples, decode, batched=True, **facts)


def _read(read: Callable[[np.ndarray], np.ndarray], rows: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Pictures of a shape, at rows; left out by `tf.data` where nothing needs them."""
    return tf.ensure_shape(tf.numpy_function(read, [rows], tf.uint8, stateful=False), [*rows.shape, *shape])
