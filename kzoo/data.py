"""Sources of examples, and the two ways to read them: an endless training stream and a finite evaluation pass.

A source hands out cheap raw elements (an index, an encoded record) in an order that only the seed decides, and decodes
them later, so that shuffling, skipping and sharding never touch a pixel.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from absl import logging

from kzoo.errors import DataError, StrategyError
from kzoo.folder import folder_records
from kzoo.options import FolderOptions, TFDSOptions
from kzoo.random import example_seeds, fold_in
from kzoo.text import SPECIAL

Batch = dict[str, tf.Tensor]

_MID_GREY = 128.0
_SHUFFLE_BYTES = 1 << 30  # records held in memory to shuffle them; a split up to this size is shuffled fully
_as_written = tf.autograph.experimental.do_not_convert  # AutoGraph would rewrite all that is called, at 20 ms each
_DIGEST_BYTES = 64 << 20  # of one column that go into a digest: a tenth of a second
_OPEN_FILES = 16  # read in turn where there are many: mixes sets that are too large for the buffer
# Batches transformed at once. Each holds all its views, and the operations inside run in parallel too: not AUTOTUNE,
# which takes one per core.
_TRANSFORMS = min(8, max(2, (os.cpu_count() or 2) // 4))


class Examples(Protocol):
    def __call__(self, seed: int | tf.Tensor | None = None) -> tf.data.Dataset: ...


@dataclass(frozen=True)
class Source:
    """A split of a dataset.

    name: as the recipe says it. size: number of examples.
    classes: the names that labels index; () where nothing is labelled.
    image_shape: (H, W, C) of every decoded image; C is 1 or 3. () for text.
    examples: `examples(seed=None)`, a dataset of `size` raw elements, cheap to hold and to skip: in a fixed order, or
        in one that is a pure function of `seed`, an integer or an int64 scalar tensor.
    decode: a raw element to {"id": int64 scalar, 0 to size - 1, the same in every run; "image": uint8 [H, W, C];
        "label": int64 scalar, -1 = unlabelled}. Text has "tokens", int32 [T], and "vocabulary_size", int32 scalar, in
        place of the image, and may have more.
    batched: whether `decode` also takes a batch of raw elements, and then returns a batch; it runs without AutoGraph.
    vocabulary: of text, what each token number stands for; it begins with `kzoo.text.SPECIAL`.
    length: of text, T, the tokens of every example, padded.
    digest: changes with the examples, their order or their labels, wherever they lie; "" where it is not known.
    census: what lies in the folder that the split comes from, as plain JSON (see `kzoo.folder`); None elsewhere.
    """

    name: str
    size: int
    classes: tuple[str, ...]
    image_shape: tuple[int, ...]
    examples: Examples
    decode: Callable[[Any], Batch]
    batched: bool = False
    vocabulary: tuple[str, ...] = ()
    length: int = 0
    digest: str = ""
    census: Mapping[str, Any] | None = None

    @property
    def modality(self) -> str:
        """ "image" or "text"."""
        return "text" if self.vocabulary else "image"


# ---- reading a source ------------------------------------------------------------------------------------------------


def training_stream(
    source: Source,
    transform: Callable[[Batch, tf.Tensor], Any],
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    shard_index: int = 0,
    shard_count: int = 1,
    local_shards: int = 1,
) -> tf.data.Dataset:
    """The endless training batches of one worker, from a global step on.

    The batch of step s in epoch e is positions s * B to (s + 1) * B of the epoch's order, which is a pure function of
    `seed` and e; replica r of R gets the r-th of R equal parts. An epoch has size // B steps and leaves the rest out.
    So a stream that starts at step k equals one that ran up to k, and R replicas together see what one sees.

    Args:
        transform: from a batch of decoded examples and their keys (int64 `[b]`, see `kzoo.random`) to what is fed to
            the model; it runs in `tf.data`, as written, without AutoGraph. Its randomness must come from the keys.
        batch_size: of all replicas together, B.
        start_step: the first global step to emit; steps before it are skipped without being decoded.
        shard_index: the first replica of this worker. shard_count: replicas of all workers, R.
        local_shards: replicas of this worker; each step emits their batches, of B / R examples, in turn.

    Raises DataError (fewer than B examples) and StrategyError (B does not divide by R, or no such replicas).
    """
    if batch_size > source.size:
        raise DataError(
            f"{source.name}: {source.size} examples do not fill one batch of {batch_size}; lower batch_size"
        )
    if batch_size % shard_count:
        raise StrategyError(f"train.batch_size: {batch_size} does not divide by {shard_count} replicas")
    if not 0 <= shard_index < shard_index + local_shards <= shard_count:
        raise StrategyError(f"no replicas {shard_index} to {shard_index + local_shards - 1} among {shard_count}")
    steps = source.size // batch_size
    share = batch_size // shard_count
    transform = _as_written(transform)
    first_epoch, first_step = divmod(start_step, steps)

    @_as_written
    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        order = fold_in(example_seeds(seed, number, tf.zeros([1], tf.int64)), "order")[0]
        elements = source.examples(seed=order).enumerate().take(steps * batch_size)
        elements = elements.skip(tf.where(number == first_epoch, np.int64(first_step * batch_size), np.int64(0)))
        if local_shards < shard_count:
            elements = elements.filter(mine)
        return elements.map(_as_written(lambda position, raw: (number, position, raw)))

    @_as_written
    def mine(position: tf.Tensor, _: Any) -> tf.Tensor:
        replica = position % batch_size // share
        return (replica >= shard_index) & (replica < shard_index + local_shards)

    @_as_written
    def finish(number: tf.Tensor, position: tf.Tensor, batch: Any) -> Any:
        decoded = source.decode(batch) if source.batched else batch
        return transform(decoded, example_seeds(seed, number[0], position))

    @_as_written
    def decode(number: tf.Tensor, position: tf.Tensor, raw: Any) -> Any:
        return number, position, source.decode(raw)

    stream = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch)
    if not source.batched:
        stream = stream.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    stream = stream.batch(share, drop_remainder=True).map(finish, num_parallel_calls=_TRANSFORMS)
    return deterministic(stream.prefetch(2 * local_shards))


def evaluation_batches(source: Source, batch_size: int, size: int | None = None) -> tf.data.Dataset:
    """Every example once, in the fixed order; the last batch may be smaller.

    Elements: {"id": int64 [b], "image": float32 [b, H, W, C] in [0, 1], "label": int64 [b]}, and what else the source
    decodes; text as it is.
    size: if given, H = W = size; images of another size get their shorter side resized, then a central crop.
    """

    @_as_written
    def finish(batch: Any) -> Batch:
        decoded = source.decode(batch) if source.batched else batch
        if source.modality == "text":
            return decoded
        image = to_float(decoded["image"])
        return {**decoded, "image": image if size is None else resize_and_crop(image, size)}

    elements = source.examples()
    if not source.batched:
        elements = elements.map(_as_written(source.decode), num_parallel_calls=tf.data.AUTOTUNE)
    return deterministic(elements.batch(batch_size).map(finish, num_parallel_calls=_TRANSFORMS).prefetch(2))


def to_float(images: Any) -> tf.Tensor:
    """uint8 images to float32 in [0, 1]; floating-point images, which are in [0, 1] already, pass through."""
    images = tf.convert_to_tensor(images)
    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else images


def resize_and_crop(images: tf.Tensor, size: int) -> tf.Tensor:
    """Resize the shorter side to `size`, with antialiasing, and crop the central square.

    images: `[..., H, W, C]` with three or four axes, H and W perhaps unknown. Returns float32 `[..., size, size, C]`
    in the range of the input; images that have that size already are not resampled.
    """
    height, width = images.shape[-3], images.shape[-2]
    if height == width == size:
        return tf.cast(images, tf.float32)
    if height is None or width is None:
        height, width = tf.shape(images)[-3], tf.shape(images)[-2]
    shorter = tf.minimum(height, width)
    new_height, new_width = (tf.cast(tf.round(side * size / shorter), tf.int32) for side in (height, width))
    resized = tf.image.resize(images, tf.stack([new_height, new_width]), antialias=True)
    top, left = (new_height - size) // 2, (new_width - size) // 2
    cropped = resized[..., top : top + size, left : left + size, :]
    return tf.ensure_shape(cropped, [*images.shape[:-3], size, size, images.shape[-1]])


def deterministic(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset in its own order, and not tuned while it runs.

    The thread that tunes sleeps up to a minute at a time, and in TensorFlow 2.21 may sleep on when its iterator is
    deleted, which waits for it: at the end of a run, or wherever Python's garbage collection finds the iterator.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    return dataset.with_options(options)


# ---- making a source -------------------------------------------------------------------------------------------------


def array_source(
    name: str, images: np.ndarray, labels: Sequence[int] | np.ndarray | None = None, classes: Sequence[str] = ()
) -> Source:
    """A source of images that are in memory. The id of an example is its row.

    images: uint8 `[N, H, W, C]` with C 1 or 3. labels: N integers, -1 = unlabelled, else an index of `classes`; none:
    all unlabelled. Raises DataError where they are anything else.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise DataError(f"{name}: images must be uint8 [N, H, W, 1 or 3]; received {images.dtype} {list(images.shape)}")
    return _row_source(name, {"image": images}, labels, classes, image_shape=images.shape[1:])


def text_source(
    name: str,
    tokens: np.ndarray,
    vocabulary: Sequence[str],
    labels: Sequence[int] | np.ndarray | None = None,
    classes: Sequence[str] = (),
    more: Mapping[str, np.ndarray] | None = None,
) -> Source:
    """A source of tokenised text that is in memory. The id of an example is its row.

    tokens: int32 `[N, T]`, padded with `kzoo.text.PAD`. vocabulary: what each number stands for, beginning with
    `kzoo.text.SPECIAL`. labels, classes: as for images. more: further columns with N rows, such as the passage that
    follows each. Raises DataError where they are anything else.
    """
    tokens = np.asarray(tokens)
    if tokens.dtype != np.int32 or tokens.ndim != 2 or not tokens.size:
        raise DataError(f"{name}: tokens must be int32 [N, T]; received {tokens.dtype} {list(tokens.shape)}")
    if tuple(vocabulary[: len(SPECIAL)]) != SPECIAL:
        raise DataError(f"{name}: a vocabulary begins with {', '.join(SPECIAL)}; received {list(vocabulary[:5])}")
    if tokens.min() < 0 or tokens.max() >= len(vocabulary):
        raise DataError(
            f"{name}: tokens must lie in 0 to {len(vocabulary) - 1}; received {tokens.min()} to {tokens.max()}"
        )
    for key, column in (more or {}).items():
        if len(column) != len(tokens):
            raise DataError(f"{name}: '{key}' has {len(column)} rows for {len(tokens)} examples")
    columns = {"tokens": tokens, **(more or {})}
    return _row_source(name, columns, labels, classes, vocabulary=tuple(vocabulary), length=tokens.shape[1])


def _row_source(
    name: str,
    columns: Mapping[str, np.ndarray],
    labels: Sequence[int] | np.ndarray | None,
    classes: Sequence[str],
    image_shape: Any = (),
    **text: Any,
) -> Source:
    """A source whose example i is row i of every column."""
    size = len(next(iter(columns.values())))
    numbers = np.full(size, -1) if labels is None else np.asarray(labels)
    if numbers.shape != (size,) or not np.issubdtype(numbers.dtype, np.integer):
        raise DataError(f"{name}: labels must be {size} integers; received {numbers.dtype} {list(numbers.shape)}")
    if numbers.min() < -1 or numbers.max() >= len(classes):
        raise DataError(
            f"{name}: labels must lie in -1 to {len(classes) - 1}, for {len(classes)} classes; "
            f"received {numbers.min()} to {numbers.max()}"
        )
    with tf.device("CPU:0"):  # gathered in tf.data, which runs there
        tables = {key: tf.constant(column) for key, column in columns.items()}
        tables["label"] = tf.constant(numbers, tf.int64)

    def examples(seed: int | tf.Tensor | None = None) -> tf.data.Dataset:
        rows = partial(tf.data.Dataset.range, size)
        return rows() if seed is None else _shuffled(lambda _: rows(), size, seed)

    def decode(index: tf.Tensor) -> Batch:
        rows = {"id": index, **{key: tf.gather(table, index) for key, table in tables.items()}}
        words = text.get("vocabulary")
        return {**rows, "vocabulary_size": tf.fill(tf.shape(index), len(words))} if words else rows

    digest = _array_digest({**columns, "label": numbers}, classes, text.get("vocabulary", ()))
    return Source(name, size, tuple(classes), image_shape, examples, decode, batched=True, digest=digest, **text)


def _array_digest(columns: Mapping[str, np.ndarray], *words: Sequence[str]) -> str:
    """SHA-256 of the columns and words; of a large column, of rows at even distances."""
    digest = hashlib.sha256(json.dumps([list(some) for some in words]).encode())
    for key, column in sorted(columns.items()):
        digest.update(f"{key} {column.dtype} {column.shape}".encode())
        step = -(-column.nbytes // _DIGEST_BYTES)
        digest.update(np.ascontiguousarray(column[::step]).tobytes())
    return digest.hexdigest()


def folder_source(path: str, split: str, options: FolderOptions) -> Source:
    """The images below a folder, for the recipe name `folder:<path>`. The id is the rank of the relative path.

    How files, splits and labels are found, and what raises DataError: `kzoo.folder.folder_records`.
    """
    records = folder_records(path, split, options)
    size = sum(count for _, count in records.files)
    with tf.device("CPU:0"):
        labels = tf.constant(records.labels, tf.int64)

    def decode(raw: Batch) -> Batch:
        pixels = tf.io.decode_raw(raw["record"], tf.uint8)
        image = tf.reshape(pixels, tf.concat([tf.shape(raw["record"]), records.shape], 0))
        image = tf.ensure_shape(image, [*raw["record"].shape, *records.shape])
        return {"id": raw["id"], "image": image, "label": tf.gather(labels, raw["id"])}

    files = [(str(file), 0, count) for file, count in records.files]
    examples = _record_examples(files, size * int(np.prod(records.shape)))
    return Source(
        f"folder:{path}",
        size,
        records.classes,
        records.shape,
        examples,
        decode,
        batched=True,
        digest=records.digest,
        census=records.census,
    )


def tfds_source(name: str, split: str, options: TFDSOptions) -> Source:
    """A split of a prepared tensorflow-datasets builder, for the recipe name `tfds:<builder>`.

    name: "builder", "builder/config" or "builder/config:version". split: may be sliced, as in "train[:80%]".
    The id is the position in the split as it is on disk. Nothing is ever downloaded. Raises DataError for what is not
    prepared, has no such split or key, or whose images have no common size (`options.size` gives them one).
    """
    import tensorflow_datasets as tfds  # half a second that other sources need not pay

    try:
        builder = tfds.builder(name, data_dir=options.data_dir)
    except tfds.core.DatasetNotFoundError:
        raise DataError(f"tfds:{name}: tensorflow-datasets knows no such builder, and data_dir holds none") from None
    if not builder.info.splits:
        place = f" --data_dir {options.data_dir}" if options.data_dir else ""
        raise DataError(f"tfds:{name}: not prepared in {builder.data_dir}; run: tfds build {name}{place}")
    return builder_source(f"tfds:{name}", builder, split, options)


def prepared_source(name: str, folder: Path, split: str, options: TFDSOptions) -> Source:
    """A split of what a tensorflow-datasets builder has written to a folder; for plugins that prepare their own.

    The code of the builder is not needed. Raises DataError as `tfds_source` does.
    """
    import tensorflow_datasets as tfds

    return builder_source(name, tfds.builder_from_directory(folder), split, options)


def builder_source(name: str, builder: Any, split: str, options: TFDSOptions) -> Source:
    """A split of a prepared `tfds.core.DatasetBuilder`. Raises DataError as `tfds_source` does."""
    import tensorflow_datasets as tfds

    info = builder.info
    try:
        files = [(file.filename, file.skip, file.take) for file in info.splits[split].file_instructions]
    except (KeyError, ValueError):
        raise DataError(f"{name}: no split '{split}'; it has {', '.join(info.splits)}") from None
    size = sum(take for _, _, take in files)
    if not size:
        raise DataError(f"{name}: split '{split}' is empty")
    if info.file_format != tfds.core.FileFormat.TFRECORD:
        raise DataError(f"{name}: prepared as {info.file_format.value}; prepare it with file_format tfrecord")
    shape, label = _image_shape(name, info.features, options), _label_key(name, info.features, options)
    wanted = [options.image_key, *([label] if label else [])]
    features = tfds.features.FeaturesDict({key: info.features[key] for key in wanted})

    def decode(raw: Batch) -> Batch:
        with quiet_tfds():
            parsed = features.deserialize_example(raw["record"])
        image = parsed[options.image_key]
        if image.shape[-1] == 4:
            colour, alpha = tf.cast(image[..., :3], tf.float32), tf.cast(image[..., 3:], tf.float32) / 255.0
            image = _to_uint8(colour * alpha + _MID_GREY * (1.0 - alpha))
        if options.size is not None:
            image = _to_uint8(resize_and_crop(image, options.size))
        number = tf.cast(parsed[label], tf.int64) if label else tf.constant(-1, tf.int64)
        return {"id": raw["id"], "image": tf.ensure_shape(image, shape), "label": number}

    every = info.splits.values()
    mean_bytes = sum(part.num_bytes for part in every) / sum(part.num_examples for part in every)
    classes = tuple(info.features[label].names) if label else ()
    decided_by = [info.full_name, split, [(part.name, part.shard_lengths, part.num_bytes) for part in every]]
    decided_by += [wanted, options.size, classes]
    digest = hashlib.sha256(json.dumps(decided_by).encode()).hexdigest()
    return Source(name, size, classes, shape, _record_examples(files, int(mean_bytes * size)), decode, digest=digest)


@contextmanager
def quiet_tfds() -> Iterator[None]:
    """Without tensorflow-datasets' words on the standard output, its progress bars and its warnings about itself."""
    import tensorflow_datasets as tfds

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(verbosity)


def _image_shape(name: str, features: Any, options: TFDSOptions) -> tuple[int, int, int]:
    """(H, W, C) of what will be decoded, from what the builder declares."""
    key = options.image_key
    if key not in features:
        raise DataError(f"{name}: no feature '{key}'; set data.options.image_key to one of {', '.join(features)}")
    declared, dtype = features[key].shape, features[key].np_dtype
    if dtype != np.uint8 or len(declared) != 3 or declared[-1] not in (1, 3, 4):
        raise DataError(
            f"{name}: feature '{key}' is {np.dtype(dtype).name} {list(declared)}; "
            "images must be uint8 [H, W, 1, 3 or 4]; set data.options.image_key to such a feature"
        )
    height, width = (options.size, options.size) if options.size else declared[:2]
    if height is None or width is None:
        raise DataError(f"{name}: images of mixed sizes; set data.options.size")
    return height, width, 1 if declared[-1] == 1 else 3


def _label_key(name: str, features: Any, options: TFDSOptions) -> str | None:
    """The feature that holds the class; None where there is none and nobody asked for one."""
    import tensorflow_datasets as tfds

    key = options.label_key
    if key in features and isinstance(features[key], tfds.features.ClassLabel):
        return key
    if key is not None and "label_key" in options.model_fields_set:
        known = [other for other in features if isinstance(features[other], tfds.features.ClassLabel)]
        known_text = f"one of {', '.join(known)}" if known else "null: it has none"
        raise DataError(f"{name}: '{key}' is no class label; set data.options.label_key to {known_text}")
    return None


def _to_uint8(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(images), 0.0, 255.0), tf.uint8)


def _record_examples(files: list[tuple[str, int, int]], total_bytes: int) -> Examples:
    """Raw elements {"id", "record"} from TFRecord files: (path, records to skip, records to take) of each.

    The id is the position in the files as listed. Shuffled fully where all records fit the buffer; larger sets are
    shuffled by file, then within the buffer.
    """
    paths, skips, takes = map(list, zip(*files, strict=True))
    size = sum(takes)
    starts = [0, *np.cumsum(takes)[:-1]]
    table = (tf.constant(paths), *(tf.constant(column, tf.int64) for column in (skips, takes, starts)))
    buffer = min(size, max(1, size * _SHUFFLE_BYTES // max(1, total_bytes)))

    @_as_written
    def read(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(path, buffer_size=1 << 20).skip(skip).take(take)
        return records.enumerate(start).map(lambda number, record: {"id": number, "record": record})

    def mixed(seed: tf.Tensor) -> tf.data.Dataset:
        listed = tf.data.Dataset.from_tensor_slices(table).shuffle(len(files), seed, reshuffle_each_iteration=False)
        return listed.interleave(read, cycle_length=_OPEN_FILES, block_length=1)

    def examples(seed: int | tf.Tensor | None = None) -> tf.data.Dataset:
        if seed is None:
            return tf.data.Dataset.from_tensor_slices(table).flat_map(read)
        return _shuffled(mixed, buffer, seed)

    return examples


def _shuffled(make: Callable[[tf.Tensor], tf.data.Dataset], buffer: int, seed: int | tf.Tensor) -> tf.data.Dataset:
    """`make(seed)`, shuffled: in the same order for the same seed, whatever the global seed is."""

    @_as_written
    def shuffled(seed: tf.Tensor) -> tf.data.Dataset:
        tf.random.set_seed(1)  # of this function's graph alone: tf.data would mix in the global seed, where one is set
        return make(seed).shuffle(buffer, seed, reshuffle_each_iteration=False)

    return tf.data.Dataset.from_tensors(tf.cast(seed, tf.int64)).flat_map(shuffled)
