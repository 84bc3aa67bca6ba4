"""The raw examples that the suite feeds to methods: one function for each modality, in memory and always the same."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kzoo.data import Batch, Source, array_source
from kzoo.errors import ConformanceError

COUNT = 64
CLASSES = 4


def source(modality: str, size: int, channels: int) -> Source:
    """`COUNT` examples of a modality. size: side in pixels; channels: of images. Raises ConformanceError."""
    if modality not in _SOURCES:
        known = ", ".join(_SOURCES)
        raise ConformanceError(f"modality '{modality}' has no examples to check with; known are: {known}")
    return _SOURCES[modality](size, channels)


def raw_batch(examples: Source, count: int) -> Batch:
    """The first `count` examples, decoded, as a batch."""
    if examples.batched:
        return examples.decode(next(iter(examples.examples().batch(count))))
    return next(iter(examples.examples().map(examples.decode).batch(count)))


def images(size: int, channels: int) -> Source:
    """Soft random patterns that get darker downwards, so that they have an up and down; every other one is labelled."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(size=(COUNT, 4, 4, channels)).astype("float32")
    light = np.linspace(1.0, 0.3, size, dtype="float32")[:, None, None]
    pixels = np.asarray(tf.image.resize(coarse, (size, size))) * light
    labels = np.where(np.arange(COUNT) % 2, np.arange(COUNT) // 2 % CLASSES, -1)
    classes = [f"class_{number}" for number in range(CLASSES)]
    return array_source("examples", (255 * pixels).astype("uint8"), labels, classes)


_SOURCES: dict[str, Callable[[int, int], Source]] = {"image": images}
