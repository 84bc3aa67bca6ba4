"""From files inside installed packages to records of tensorflow-datasets, written once into kzoo's cache."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from kzoo.data import cache_dir, prepare_once, quiet_tfds
from kzoo.errors import DataError


def prepared(builder: Callable[..., tfds.core.DatasetBuilder], location: str) -> Path:
    """The folder that holds what a builder writes, written now if it is not there.

    builder: called with `data_dir`. location: below data_dir, "name/version" or "name/config/version".
    """

    def write(scratch: Path) -> Path:
        with quiet_tfds():  # kzoo shows a progress bar of its own
            builder(data_dir=scratch).download_and_prepare()
        return scratch / location

    return prepare_once(cache_dir() / "tfds" / location, write)


def raw_image(*shape: int) -> tfds.features.Tensor:
    """The feature of a uint8 image kept as it is: PNG takes half the space, but many times as long to write."""
    return tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding=tfds.features.Encoding.BYTES)


def package_file(package: str, path: str) -> Path:
    """A data file inside an installed package, which is not imported. Raises DataError where it is missing."""
    spec = find_spec(package)
    file = Path(spec.submodule_search_locations[0], path) if spec and spec.submodule_search_locations else None
    if file is None or not file.is_file():
        raise DataError(f"{package}: its data file {path} is missing; pip install --upgrade kzoo-samples")
    return file
