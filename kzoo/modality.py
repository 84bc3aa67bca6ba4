"""What is particular to a kind of data: one object for images, one for text, and those that plugins bring through the
hook `kzoo_modalities`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.data.source import Batch, Source
from kzoo.specs import DataFacts

Signature = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]


@dataclass(frozen=True)
class Served:
    """The signatures of an export, and what they are checked with.

    functions: name to traced function; "serving_default" takes the modality's key. samples: three examples that it can
    answer. takes: what the backbone itself is called on, for these. facts: what the metadata says of the input.
    blurred: samples as the backbone takes them, changed by their last bit; none where they are whole numbers.
    parity: a further check of the loaded signatures, given what the backbone returns for examples; returns what it
    found, as plain JSON.
    """

    functions: dict[str, Any]
    samples: np.ndarray
    takes: Callable[[np.ndarray], np.ndarray]
    facts: Mapping[str, Any]
    blurred: Callable[[np.ndarray], np.ndarray] | None = None
    parity: Callable[[Mapping[str, Any], Callable[[np.ndarray], np.ndarray]], dict[str, Any]] | None = None


@dataclass(frozen=True)
class CheckExamples:
    """What the conformance suite checks with.

    size: of an example, the side in pixels, the length in tokens. depth: the channels, the vocabulary's size.
    other_depth: another that must work too.
    source: the same few examples of a size and depth each time, in memory. shape: of the backbone's input, from size
    (none: any) and depth. tiny: a backbone for that shape. inputs: what one is called on, `(count, size, depth)`.
    """

    size: int
    depth: int
    other_depth: int
    source: Callable[[int, int], Source]
    shape: Callable[[int | None, int], tuple[int | None, ...]]
    tiny: Callable[[tuple[int | None, ...]], keras.Model]
    inputs: Callable[[int, int, int], np.ndarray]


@dataclass(frozen=True)
class Shown:
    """What a picture of the pretext is drawn from.

    raw: the first examples, decoded. ready: what the pretext made of them. count: how many examples.
    """

    raw: Batch
    ready: Batch
    count: int
    source: Source


class Modality:
    """A kind of data. Subclass it, and name an instance in a `ModalitySpec`.

    key: what of a batch goes into the backbone, and the name of the backbone's input layer.
    """

    key: str

    def element(self, source: Source) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of each tensor of one decoded example, by name, beside "id" and "label"."""
        raise NotImplementedError

    def describe(self, source: Source) -> str:
        """What the examples are, in a few words for the plan: "images of 32 x 32 x 3"."""
        raise NotImplementedError

    def input_shape(self, source: Source, sides: tuple[int, int] | None) -> tuple[int, ...]:
        """The shape that a backbone is built for. sides: (height, width) of what goes downstream, for pictures."""
        raise NotImplementedError

    def ready(self, batch: Batch, size: int | None, key: str) -> Batch:
        """A decoded batch as a backbone takes it that is not trained: in the graph.

        size: of pictures, the side. key: what the backbone takes, where that is not the modality's own.
        """
        raise NotImplementedError

    def take(self, batch: Batch, asked: Batch) -> Batch:
        """Of whole decoded examples what a method asks for (`Method.choose`); all of it where there are no parts."""
        return batch

    def blank(self, facts: DataFacts, input_shape: tuple[int | None, ...], size: int) -> dict[str, np.ndarray]:
        """Two raw examples of zeros, which build a method. size: of pictures, the side."""
        return {name: np.zeros((2, *shape), kind) for name, (shape, kind) in facts.element.items()}

    def show(self, path: Path, shown: Shown) -> None:
        """Draw what the pretext shows the model."""
        raise NotImplementedError

    def animate(self, path: Path, predicted: Mapping[str, Any]) -> None:
        """Draw what moves in what `Method.visualise` returned, as a WebP; by default nothing does."""

    def thumbnails(self, batch: Batch) -> np.ndarray | None:
        """One picture for each example of an evaluation batch, float `[b, H, W, C]`; none where there is none."""
        return None

    def serve(
        self,
        backbone: keras.Model,
        *,
        size: tuple[int, ...] | None,
        vocabulary: Sequence[str],
        bits: int,
        further: Mapping[str, Signature],
    ) -> Served:
        """What an export of a backbone of this modality returns. Raises ExportError where it cannot be served."""
        raise NotImplementedError

    def examples(self) -> CheckExamples:
        """What the conformance suite checks methods and backbones of this modality with."""
        raise NotImplementedError
