"""Sources of examples, how plugins make them, and the two ways to read them."""

from typing import TYPE_CHECKING

from kzoo.system.lazy import names_of

if TYPE_CHECKING:
    from kzoo.data.arrays import array_source, text_source
    from kzoo.data.cache import cache_dir, prepare_once, progress
    from kzoo.data.prepared import builder_source, prepared_source, quiet_tfds, tfds_source
    from kzoo.data.resize import resize_and_crop, to_float
    from kzoo.data.source import Batch, Examples, Source
    from kzoo.data.streams import deterministic, evaluation_batches, training_stream

__all__ = [
    "Batch",
    "Examples",
    "Source",
    "array_source",
    "builder_source",
    "cache_dir",
    "deterministic",
    "evaluation_batches",
    "prepare_once",
    "prepared_source",
    "progress",
    "quiet_tfds",
    "resize_and_crop",
    "text_source",
    "tfds_source",
    "to_float",
    "training_stream",
]

__getattr__ = names_of(
    __name__,
    {
        "kzoo.data.arrays": ["array_source", "text_source"],
        "kzoo.data.cache": ["cache_dir", "prepare_once", "progress"],
        "kzoo.data.prepared": ["builder_source", "prepared_source", "quiet_tfds", "tfds_source"],
        "kzoo.data.resize": ["resize_and_crop", "to_float"],
        "kzoo.data.source": ["Batch", "Examples", "Source"],
        "kzoo.data.streams": ["deterministic", "evaluation_batches", "training_stream"],
    },
)
