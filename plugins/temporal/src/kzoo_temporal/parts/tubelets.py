"""Videos as tubelets: blocks of a few frames and a square of pixels, as a backbone cuts them."""

from dataclasses import dataclass

import keras
import tensorflow as tf

from kzoo import augment
from kzoo.errors import OptionsError
from kzoo.patches import patches_of
from kzoo_temporal.parts.frames import flat


@dataclass(frozen=True)
class Tubelets:
    """grid: slots of time, rows, columns. shape: of one, frames, pixels down and across, channels."""

    grid: tuple[int, int, int]
    shape: tuple[int, int, int, int]

    @property
    def count(self) -> int:
        slots, rows, columns = self.grid
        return slots * rows * columns

    def cut(self, video: tf.Tensor) -> tf.Tensor:
        """`[B, T, H, W, C]` as the pixels of its tubelets, `[B, N, t * p * p, C]`."""
        (slots, rows, columns), (deep, high, wide, channels) = self.grid, self.shape
        cut = tf.reshape(video, [-1, slots, deep, rows, high, columns, wide, channels])
        cut = tf.transpose(cut, [0, 1, 3, 5, 2, 4, 6, 7])
        return tf.reshape(cut, [-1, self.count, deep * high * wide, channels])

    def join(self, values: tf.Tensor) -> tf.Tensor:
        """The inverse of `cut`."""
        (slots, rows, columns), (deep, high, wide, channels) = self.grid, self.shape
        parts = tf.reshape(values, [-1, slots, rows, columns, deep, high, wide, channels])
        parts = tf.transpose(parts, [0, 1, 4, 2, 5, 3, 6, 7])
        return tf.reshape(parts, [-1, slots * deep, rows * high, columns * wide, channels])


def tubelets_of(backbone: keras.Model, method: str) -> Tubelets:
    """How a backbone of video cuts it. Raises OptionsError where it cannot be shown a part of its tubelets."""
    patches = patches_of(backbone, "token_subset", method=method)
    shape = backbone.input_shape[1:]
    if len(shape) != 4:
        raise OptionsError([f"{method}: needs a backbone of video, such as video_vit_tiny; '{backbone.name}' is none"])
    length, height, width, channels = shape
    rows, columns = height // patches.size, width // patches.size
    slots = backbone.output["tokens"].shape[1] // (rows * columns)
    return Tubelets((slots, rows, columns), (length // slots, patches.size, patches.size, channels))


def crop_clips(
    video: tf.Tensor, seed: tf.Tensor, size: int | tuple[int, int], scale: tuple[float, float], flip: float
) -> tf.Tensor:
    """One random crop and flip for all frames of a clip: float `[B, T, *size, C]` in [0, 1]."""
    length = video.shape[1]
    frames = augment.random_resized_crop(flat(video), tf.repeat(seed, length), size, scale, flip=flip)
    return tf.reshape(frames, [-1, length, *frames.shape[1:]])


def in_all_slots(places: tf.Tensor, tubelets: Tubelets) -> tf.Tensor:
    """The numbers of tubelets at places `[B, k]` of the picture, in every slot: int32 `[B, slots * k]`."""
    slots, rows, columns = tubelets.grid
    every = tf.range(slots)[:, None] * (rows * columns) + places[:, None]
    return tf.reshape(every, [-1, slots * places.shape[1]])
