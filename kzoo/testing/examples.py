"""The raw examples that the suite feeds to methods and backbones: for each modality one `Examples`."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from kzoo.data.arrays import array_source, text_source
from kzoo.data.source import Batch, Source
from kzoo.errors import ConformanceError
from kzoo.testing.tiny import tiny_backbone, tiny_text_backbone
from kzoo.text import PAD, SPECIAL

COUNT = 32
CLASSES = tuple(f"class_{number}" for number in range(4))


@dataclass(frozen=True)
class Examples:
    """What is checked with in a modality.

    key: of the batch, what goes into the backbone. size: of an example, the side in pixels, the length in tokens.
    depth: the channels, the vocabulary's size. other_depth: another that must work too.
    source: `COUNT` examples of a size and depth, in memory, always the same.
    shape: of the backbone's input, from size and depth. tiny: a backbone for that shape.
    """

    key: str
    size: int
    depth: int
    other_depth: int
    source: Callable[[int, int], Source]
    shape: Callable[[int | None, int], tuple[int | None, ...]]
    tiny: Callable[[tuple[int | None, ...]], keras.Model]


def of_modality(modality: str) -> Examples:
    """The examples of a modality. Raises ConformanceError where there are none."""
    if modality not in _MODALITIES:
        known = ", ".join(_MODALITIES)
        raise ConformanceError(f"modality '{modality}' has no examples to check with; known are: {known}")
    return _MODALITIES[modality]


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


_MODALITIES = {
    "image": Examples("image", 32, 3, 1, _images, lambda size, channels: (size, size, channels), tiny_backbone),
    "text": Examples("tokens", 16, 32, 48, _text, lambda length, words: (length, words), tiny_text_backbone),
}
