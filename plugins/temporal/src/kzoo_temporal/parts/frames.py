"""Frames of clips as pictures: keys for each, how much moves between them, whole videos put together again; and the
batches that figures are asked of.
"""

import numpy as np
import tensorflow as tf

from kzoo.data import Source, training_stream
from kzoo.method import Method
from kzoo.random import fold_in

_SIDE = 32  # pixels, about, of the pictures in which motion is measured


def flat(video: tf.Tensor) -> tf.Tensor:
    """Clips `[B, T, H, W, C]` as pictures `[B * T, H, W, C]`, those of clip i before those of i + 1."""
    return tf.reshape(video, [-1, *video.shape[2:]])


def frame_keys(keys: tf.Tensor, length: int) -> tf.Tensor:
    """A key for each frame, `[B * length]`, in the order of `flat`."""
    return fold_in(tf.repeat(keys, length), tf.tile(tf.range(length), [tf.shape(keys)[0]]))


def motion(video: tf.Tensor) -> tf.Tensor:
    """How far things move from each frame to the next, about in pixels at 32 x 32: float32 `[B, T - 1]`.

    The length of the normal flow (Horn and Schunck 1981), |dI/dt| / |grad I|, averaged with weights |grad I|²: what of
    the optical flow one pixel tells. video: uint8 `[B, T, H, W, C]`.
    """
    grey = tf.reduce_mean(tf.cast(flat(video), tf.float32), axis=-1, keepdims=True)
    step = max(1, grey.shape[1] // _SIDE)
    grey = tf.nn.avg_pool2d(grey, step, step, "VALID")[..., 0]
    grey = tf.reshape(grey, [-1, video.shape[1], *grey.shape[1:]])
    middle = (grey[:, 1:] + grey[:, :-1]) / 2
    down = (middle[:, :, 2:, 1:-1] - middle[:, :, :-2, 1:-1]) / 2
    right = (middle[:, :, 1:-1, 2:] - middle[:, :, 1:-1, :-2]) / 2
    slope = tf.square(down) + tf.square(right)
    change = tf.abs(grey[:, 1:] - grey[:, :-1])[:, :, 1:-1, 1:-1]
    return tf.reduce_sum(change * tf.sqrt(slope), axis=[2, 3]) / (tf.reduce_sum(slope, axis=[2, 3]) + 1.0)


def asked(method: Method, source: Source, examples: int) -> tf.data.Dataset:
    """Batches of about so many examples, as the method's pretext makes them; the same ones each time."""
    size = min(16, source.size)
    return training_stream(source, method.transform, batch_size=size, seed=0).take(max(1, examples // size))


def whole_videos(source: Source, most: int = 128) -> list[np.ndarray]:
    """The frames of each video of a source in the order of time, once each, at most so many: uint8 `[n, H, W, C]`."""
    found: dict[int, dict[float, np.ndarray]] = {}
    for numbers in source.examples().batch(32):
        batch = {key: value.numpy() for key, value in source.decode(numbers).items()}
        for clip, times, video in zip(batch["clip"], batch["time"], batch["video"], strict=True):
            frames = found.setdefault(int(clip), {})
            for time, frame in zip(times.tolist(), video, strict=True):
                if len(frames) < most:
                    frames.setdefault(time, frame)
    return [np.stack([frames[time] for time in sorted(frames)]) for _, frames in sorted(found.items())]
