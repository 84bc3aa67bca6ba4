"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747), from the files that Debian packages.

Read straight from the compressed files: that takes half a second, less than a prepared copy would.
"""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np

from kzoo.data import Source, array_source, tfds_source
from kzoo.errors import DataError, NoSplit, NotPrepared
from kzoo.options import TFDSOptions
from kzoo_samples.options import FashionMNISTOptions

CLASSES = (
    "t-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_DEBIAN = "/usr/share/datasets/fashion-mnist"
_FILES = {"train": "train", "test": "t10k"}
_SIZES = {"train": 60_000, "test": 10_000}


def fashion_mnist(split: str, options: FashionMNISTOptions) -> Source:
    """28x28x1, ten classes, balanced: 60,000 examples to train, 10,000 to test. The id is the place in the file.

    Looks in the folder that the environment variable KZOO_FASHION_MNIST names, else where Debian's package puts the
    files, else for the copy of tensorflow-datasets. Raises DataError where there is none, or the files are damaged.
    """
    if split not in _FILES:
        raise NoSplit(f"fashion_mnist: no split '{split}'; it has {', '.join(_FILES)}")
    chosen = os.environ.get("KZOO_FASHION_MNIST")
    folder = Path(chosen or _DEBIAN)
    if not chosen and not folder.is_dir():
        return _from_tfds(split, options.limit)
    stem = _FILES[split]
    images = read_idx(folder / f"{stem}-images-idx3-ubyte.gz")[: options.limit]
    labels = read_idx(folder / f"{stem}-labels-idx1-ubyte.gz")[: options.limit]
    return array_source("fashion_mnist", images[..., None], labels.astype(np.int64), CLASSES)


def read_idx(path: Path) -> np.ndarray:
    """The bytes of a compressed IDX file (LeCun's format for MNIST), in the shape its header declares.

    Two zero bytes, 8 for unsigned bytes, the number of axes; the length of each as 4 bytes, highest first; the data.
    """
    try:
        content = gzip.decompress(path.read_bytes())
        zeros, kind, axes = int.from_bytes(content[:2], "big"), content[2], content[3]
        shape = np.frombuffer(content, ">u4", axes, offset=4).astype(int)
        if zeros or kind != 8:
            raise ValueError("no IDX file of unsigned bytes")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, IndexError, ValueError, zlib.error) as error:
        what = "missing" if isinstance(error, FileNotFoundError) else f"damaged ({error})"
        raise DataError(
            f"fashion_mnist: {path} is {what}; run: apt-get install --reinstall dataset-fashion-mnist, "
            "or point KZOO_FASHION_MNIST at a folder with its four files"
        ) from error


def _from_tfds(split: str, limit: int | None) -> Source:
    if limit is not None and limit < _SIZES[split]:
        split = f"{split}[:{limit}]"
    try:
        return tfds_source("fashion_mnist", split, TFDSOptions())
    except NotPrepared:
        raise NotPrepared(
            "fashion_mnist: not on this machine; run: apt-get install dataset-fashion-mnist, "
            "or: tfds build fashion_mnist"
        ) from None
