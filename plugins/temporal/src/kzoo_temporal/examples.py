"""The raw clips and pairs that the conformance suite feeds to methods and backbones: a texture that moves."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.data import Source
from kzoo.layers import BatchNormalization
from kzoo.modality import CheckExamples
from kzoo.testing.examples import CLASSES, COUNT
from kzoo.testing.tiny import tiny_backbone
from kzoo_temporal.data.clips import digest_of, stereo_source, video_source

LENGTH = 8  # frames of a clip
_RATE = 10.0  # frames a second


def texture(rng: np.random.Generator, height: int, width: int, channels: int) -> np.ndarray:
    """A soft random picture, float `[height, width, channels]` in [0, 1]."""
    coarse = rng.uniform(size=(max(2, height // 4), max(2, width // 4), channels)).astype("float32")
    return np.asarray(tf.image.resize(coarse, (height, width), method="bicubic")).clip(0, 1)


def labels() -> np.ndarray:
    """Every other example is labelled."""
    numbers = np.arange(COUNT)
    return np.where(numbers % 2, numbers // 2 % len(CLASSES), -1)


def _videos(size: int, channels: int) -> Source:
    """Each clip is a window that moves right over a picture of its own and gets brighter."""
    rng = np.random.default_rng(0)
    pixels = np.zeros((COUNT * LENGTH, size, size, channels), np.uint8)
    for number in range(COUNT):
        picture = texture(rng, size, size + 2 * LENGTH, channels)
        for frame in range(LENGTH):
            light = (0.6 + 0.4 * frame / LENGTH) * (0.5 + 0.5 * number / COUNT)
            pixels[number * LENGTH + frame] = 255 * light * picture[:, 2 * frame : 2 * frame + size]
    seconds = np.tile(np.arange(LENGTH) / _RATE, COUNT)
    first, clip = LENGTH * np.arange(COUNT), np.arange(COUNT)
    return video_source("examples", pixels, seconds, first, LENGTH, clip, labels(), CLASSES, digest=digest_of(pixels))


def _pairs(size: int, channels: int) -> Source:
    """Each pair has one disparity, 1 to 4 pixels."""
    rng = np.random.default_rng(0)
    left, right = (np.zeros((COUNT, size, size, channels), np.uint8) for _ in range(2))
    for number in range(COUNT):
        picture = 255 * (0.5 + 0.5 * number / COUNT) * texture(rng, size, size + 4, channels)
        shift = 1 + number % 4
        left[number], right[number] = picture[:, :size], picture[:, shift : shift + size]
    return stereo_source("examples", left, right, labels(), CLASSES, digest=digest_of(left, right))


def tiny_video_backbone(input_shape: tuple[int | None, ...]) -> keras.Model:
    """Three convolutions over space, the first two over time as well.

    Outputs: "map" `[B, T, H/8, W/8, 32]`; "embedding", its mean `[B, 32]`.
    """
    x: Any = keras.Input(input_shape, name="video")
    inputs = x
    for level, (width, depth) in enumerate(((8, 3), (16, 3), (32, 1)), start=1):
        x = keras.layers.Conv3D(
            width, (depth, 3, 3), strides=(1, 2, 2), padding="same", use_bias=False, name=f"conv_{level}"
        )(x)
        x = keras.layers.ReLU(name=f"relu_{level}")(BatchNormalization(name=f"norm_{level}")(x))
    outputs = {"embedding": keras.layers.GlobalAveragePooling3D(name="embedding")(x), "map": x}
    return keras.Model(inputs, outputs, name="tiny")


def _inputs(count: int, size: int, depth: int) -> np.ndarray:
    light = np.linspace(0.2, 1.0, count)[:, None, None, None, None]
    return (light * np.random.default_rng(0).uniform(size=(count, LENGTH, size, size, depth))).astype("float32")


VIDEOS = CheckExamples(
    32, 3, 1, _videos, lambda size, channels: (LENGTH, size, size, channels), tiny_video_backbone, _inputs
)
PAIRS = CheckExamples(
    32,
    3,
    1,
    _pairs,
    lambda size, channels: (size, size, channels),
    tiny_backbone,
    lambda count, size, depth: _inputs(count, size, depth)[:, 0],
)
