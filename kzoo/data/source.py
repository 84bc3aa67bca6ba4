"""A source: a split of a dataset as cheap raw elements in an order that only the seed decides, decoded later.

So shuffling, skipping and sharding never touch a pixel. What reads a source is in `kzoo.data.streams`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from kzoo.plugins import targets
from kzoo.specs import DataFacts

Batch = dict[str, tf.Tensor]

_SHUFFLE_BYTES = 1 << 30  # records held in memory to shuffle them; a split up to this size is shuffled fully
_OPEN_FILES = 16  # read in turn where there are many: mixes sets that are too large for the buffer
as_written = tf.autograph.experimental.do_not_convert  # AutoGraph would rewrite all that is called, at 20 ms each


class Examples(Protocol):
    def __call__(self, seed: int | tf.Tensor | None = None) -> tf.data.Dataset: ...


@dataclass(frozen=True)
class Source:
    """A split of a dataset.

    name: as the recipe says it. size: number of examples.
    classes: the names that labels index; () where nothing is labelled.
    image_shape: (H, W, C) of every decoded image, or frame; C is 1 or 3. () for text.
    examples: `examples(seed=None)`, a dataset of `size` raw elements, cheap to hold and to skip: in the order of
        their ids, or in one that is a pure function of `seed`, an integer or an int64 scalar tensor.
    decode: a raw element to {"id": int64 scalar, 0 to size - 1, the same in every run; "image": uint8 [H, W, C];
        "label": int64 scalar, -1 = unlabelled}. Text has "tokens", int32 [T], and "vocabulary_size", int32 scalar, in
        place of the image, and may have more.
    batched: whether `decode` also takes a batch of raw elements, and then returns a batch; it runs without AutoGraph.
    chooses: whether `decode` also takes, after the raw elements, what a method asks for of each (`Method.choose`), and
        then decodes that alone.
    vocabulary: of text, what each token number stands for; it begins with `kzoo.text.SPECIAL`.
    length: T, of text the tokens of every example, padded; of video its frames.
    modality: its kind of data, `kzoo list modalities`.
    names: of a folder, the file of each id, below it; () elsewhere.
    digest: changes with the examples, their order or their labels, wherever they lie; "" where it is not known.
    census: what lies in the folder that the split comes from, as plain JSON (see `kzoo.folder.source`); None elsewhere.
    labelled: ids of the examples whose labels `decode` gives, where some are hidden; labelled_share: of each batch of
        training that is drawn from them (see `kzoo.data.labels`); None: nothing is hidden, drawn from all.
    """

    name: str
    size: int
    classes: tuple[str, ...]
    image_shape: tuple[int, ...]
    examples: Examples
    decode: Callable[..., Batch]
    batched: bool = False
    chooses: bool = False
    vocabulary: tuple[str, ...] = ()
    length: int = 0
    digest: str = ""
    census: Mapping[str, Any] | None = None
    labelled: np.ndarray | None = field(default=None, compare=False)
    labelled_share: float | None = None
    modality: str = "image"
    names: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def facts(self) -> DataFacts:
        """What a method is told of it."""
        return DataFacts(
            examples=self.size,
            classes=self.classes,
            vocabulary=self.vocabulary,
            element=targets.modality(self.modality).element(self),
            modality=self.modality,
        )


def record_examples(files: list[tuple[str, int, int]], total_bytes: int) -> Examples:
    """Raw elements {"id", "record"} from TFRecord files: (path, records to skip, records to take) of each.

    The id is the position in the files as listed. Shuffled fully where all records fit the buffer; larger sets are
    shuffled by file, then within the buffer.
    """
    paths, skips, takes = map(list, zip(*files, strict=True))
    size = sum(takes)
    starts = [0, *np.cumsum(takes)[:-1]]
    table = (tf.constant(paths), *(tf.constant(column, tf.int64) for column in (skips, takes, starts)))
    buffer = min(size, max(1, size * _SHUFFLE_BYTES // max(1, total_bytes)))

    @as_written
    def read(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(path, buffer_size=1 << 20).skip(skip).take(take)
        return records.enumerate(start).map(lambda number, record: {"id": number, "record": record})

    def mixed(seed: tf.Tensor) -> tf.data.Dataset:
        listed = tf.data.Dataset.from_tensor_slices(table).shuffle(len(files), seed, reshuffle_each_iteration=False)
        return listed.interleave(read, cycle_length=_OPEN_FILES, block_length=1)

    def examples(seed: int | tf.Tensor | None = None) -> tf.data.Dataset:
        if seed is None:
            return tf.data.Dataset.from_tensor_slices(table).flat_map(read)
        return shuffled(mixed, buffer, seed)

    return examples


def shuffled(make: Callable[[tf.Tensor], tf.data.Dataset], buffer: int, seed: int | tf.Tensor) -> tf.data.Dataset:
    """`make(seed)`, shuffled: in the same order for the same seed, whatever the global seed is."""

    @as_written
    def seeded(seed: tf.Tensor) -> tf.data.Dataset:
        tf.random.set_seed(1)  # of this function's graph alone: tf.data would mix in the global seed, where one is set
        return make(seed).shuffle(buffer, seed, reshuffle_each_iteration=False)

    return tf.data.Dataset.from_tensors(tf.cast(seed, tf.int64)).flat_map(seeded)
