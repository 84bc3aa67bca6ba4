"""Sources of what a tensorflow-datasets builder has prepared."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from kzoo.data.resize import resize_bytes, to_uint8
from kzoo.data.source import Batch, Source, record_examples
from kzoo.errors import DataError, NoSplit, NotPrepared
from kzoo.options import TFDSOptions

_MID_GREY = 128.0


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
        raise NotPrepared(f"tfds:{name}: not prepared in {builder.data_dir}; run: tfds build {name}{place}")
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
        raise NoSplit(f"{name}: no split '{split}'; it has {', '.join(info.splits)}") from None
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
            image = to_uint8(colour * alpha + _MID_GREY * (1.0 - alpha))
        if options.size is not None:
            image = resize_bytes(image, options.size)
        number = tf.cast(parsed[label], tf.int64) if label else tf.constant(-1, tf.int64)
        return {"id": raw["id"], "image": tf.ensure_shape(image, shape), "label": number}

    every = info.splits.values()
    mean_bytes = sum(part.num_bytes for part in every) / sum(part.num_examples for part in every)
    classes = tuple(info.features[label].names) if label else ()
    decided_by = [info.full_name, split, [(part.name, part.shard_lengths, part.num_bytes) for part in every]]
    decided_by += [wanted, options.size, classes]
    digest = hashlib.sha256(json.dumps(decided_by).encode()).hexdigest()
    return Source(name, size, classes, shape, record_examples(files, int(mean_bytes * size)), decode, digest=digest)


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
