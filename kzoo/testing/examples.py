"""The raw examples of images and of text that the suite feeds to methods and backbones."""

import numpy as np
import tensorflow as tf

from kzoo.data.arrays import array_source, text_source
from kzoo.data.source import Batch, Source
from kzoo.modality import CheckExamples
from kzoo.testing.tiny import tiny_backbone, tiny_text_backbone
from kzoo.text import PAD, SPECIAL

COUNT = 32
CLASSES = tuple(f"class_{number}" for number in range(4))


def raw_batch(source: Source, count: int) -> Batch:
    """The first `count` examples, decoded, as a batch."""
    if source.batched:
        return source.decode(next(iter(source.examples().batch(count))))
    return next(iter(source.examples().map(source.decode).batch(count)))


def _images(size: int, channels: int) -> Source:
    """Soft random patterns that get darker downwards, so that they have an up and down."""
    coarse = np.random.default_rng(0).uniform(size=(COUNT, 4, 4, channels)).astype("float32")
    light = np.linspace(1.0, 0.3, size, dtype="float32")[:, None, None]
    pixels = np.asarray(tf.image.resize(coarse, (size, size))) * light
    return array_source("examples", (255 * pixels).astype("uint8"), _labels(), CLASSES)


def _text(length: int, words: int) -> Source:
    """Runs of consecutive words of an alphabet, so that a missing one can be told from its neighbours."""
    rng = np.random.default_rng(0)
    known = words - len(SPECIAL)
    runs = (rng.integers(0, known, (2, COUNT, 1)) + np.arange(length)) % known + len(SPECIAL)
    runs[..., -2:] = np.where(rng.uniform(size=(2, COUNT, 1)) < 0.5, PAD, runs[..., -2:])
    tokens, following = runs.astype("int32")
    sentinels = [f"<extra_id_{number}>" for number in range(8)]  # T5's, which some methods look for after the special
    vocabulary = (*SPECIAL, *sentinels, *(f"word{number}" for number in range(len(sentinels), known)))
    return text_source("examples", tokens, vocabulary, _labels(), CLASSES, {"next": following})


def _labels() -> np.ndarray:
    """Every other example is labelled."""
    numbers = np.arange(COUNT)
    return np.where(numbers % 2, numbers // 2 % len(CLASSES), -1)


def _pixels(count: int, size: int, depth: int) -> np.ndarray:
    light = np.linspace(0.2, 1.0, count)[:, None, None, None]  # noise alone looks all alike to a deep network
    return (light * np.random.default_rng(0).uniform(size=(count, size, size, depth))).astype("float32")


def _tokens(count: int, length: int, words: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, words, (count, length)).astype("int32")


IMAGES = CheckExamples(32, 3, 1, _images, lambda size, channels: (size, size, channels), tiny_backbone, _pixels)
PASSAGES = CheckExamples(16, 32, 48, _text, lambda length, words: (length or 0, words), tiny_text_backbone, _tokens)
