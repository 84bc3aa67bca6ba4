"""A folder of image files of any kind, as records of raw pixels that all have one shape.

The folder is read as a whole, all splits at once: every file is read with Pillow, checked, turned upright, brought to
one size and written to the cache as raw bytes, once. Training then reads those records at the speed of the disk.
"""

import hashlib
import json
import os
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import tensorflow as tf

from kzoo.data.cache import cache_dir, prepare_once, progress
from kzoo.data.source import Batch, Source, record_examples
from kzoo.errors import DataError, printable
from kzoo.folder import glance
from kzoo.folder.census import Census, image_census
from kzoo.folder.images import Looks, bits_for, look, read_image, reason
from kzoo.options import FolderOptions

_SHARD = 128 << 20  # bytes in one file of records
_DECODED = 256 << 20  # bytes, about, of images that are decoded before they are written
_CHUNK = 256  # and not more images than these
_UNUSED = 30 * 24 * 3600  # seconds since its last start, after which the records of a changed folder are removed
_FORMAT = 4  # of the cache; raised when what is written, or how it is made, changes
_INDEX, _BROKEN = "index.json", "broken.txt"


def folder_source(path: str, split: str, options: FolderOptions) -> Source:
    """The images below a folder, for the recipe name `folder:<path>`. The id is the rank of the relative path.

    The first sub-folders are the splits where all of them have names of splits (train, Testing, val2017, unlabeled),
    and the labels lie one level below; else they are the classes, and the split test is a share of each class,
    `options.test_fraction`, chosen by a hash of the paths. Fewer than two classes: unlabelled. A "val" is found as
    "validation" too. `kzoo.folder.census` has the rules in full, and `options.layout` overrides them.

    All splits are read and checked at once, whichever is opened, and channels, depth and size are decided for all: grey
    if all images are; wide grey values by the bits that the brightest of all uses. `Source.census` says what was found.

    Raises NoSplit, or DataError: no such folder, no image, sub-folders that can be read in two ways, broken files
    (unless `options.skip_broken`: then a warning), sizes that differ.
    """
    census = image_census(path, options)
    split = census.find(split)
    folder = _prepared(census, options)
    index = json.loads((folder / _INDEX).read_text())
    broken: dict[str, str] = index["broken"]
    if broken:
        listed = f"; all are in {folder / _BROKEN}"
        if not options.skip_broken:
            raise glance.unreadable(census.title, broken, listed)
        warnings.warn(f"{census.title}: left out {glance.told(broken)}{listed}")
    census = census.without(broken)
    files = [(str(folder / name), 0, count) for name, count in index["files"][split]]
    if not files:
        raise DataError(f"{census.title}: no image of split '{printable(split)}' can be read")
    shape, size, classes = tuple(index["shape"]), len(census.splits[split]), census.classes
    numbers = census.labels(split)
    with tf.device("CPU:0"):
        labels = tf.constant(numbers, tf.int64)

    def decode(raw: Batch) -> Batch:
        pixels = tf.io.decode_raw(raw["record"], tf.uint8)
        image = tf.reshape(pixels, tf.concat([tf.shape(raw["record"]), shape], 0))
        image = tf.ensure_shape(image, [*raw["record"].shape, *shape])
        return {"id": raw["id"], "image": image, "label": tf.gather(labels, raw["id"])}

    return Source(
        name=census.title,
        size=size,
        classes=tuple(map(printable, classes)),
        image_shape=shape,
        examples=record_examples(files, size * int(np.prod(shape))),
        decode=decode,
        batched=True,
        digest=_digest(index["contents"][split], numbers, classes, shape, index["images"]["bits"]),
        census={**census.as_json(), "images": index["images"]},
        names=tuple(file.name for file in census.splits[split]),
    )


def _prepared(census: Census, options: FolderOptions) -> Path:
    """The folder of the cache that holds the records of all splits and their index, written now where it is missing."""
    stamps = {split: [(file.name, file.size, file.changed) for file in files] for split, files in census.splits.items()}
    place = (
        cache_dir() / "folders" / _digest(str(census.folder), options.size, options.layout, options.test_fraction)[:20]
    )
    folder = place / _digest(_FORMAT, PIL.__version__, stamps, census.broken)[:20]
    prepare_once(folder, lambda scratch: _write(scratch / folder.name, census, options.size))
    os.utime(folder)
    for other in place.iterdir():  # of the folder as it was before; a run may still be reading it
        if time.time() - other.stat().st_mtime > _UNUSED:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _write(folder: Path, census: Census, size: int | None) -> Path:
    """Decode all images of all splits into files of records and an index."""
    folder.mkdir()
    broken = dict(census.broken)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        names = [file.name for files in census.splits.values() for file in files]
        looks = dict(_each(pool, census.folder, broken, look, names, "Looking at the images", _CHUNK))
        found = _Findings.of(census, looks, size)
        decode = partial(_pixels, size=size, found=found)
        files, contents = {}, {}
        for number, (split, members) in enumerate(census.splits.items()):
            names = [file.name for file in members if file.name in looks]
            doing = f"Preparing the images of {printable(split)}"
            chunk = max(8, min(_CHUNK, _DECODED // max(1, int(np.prod(found.shape)))))
            images = _each(pool, census.folder, broken, decode, names, doing, chunk)
            hashes: list[tuple[str, str]] = []
            files[split] = _write_records(folder, f"{number:03d}", _noting(images, hashes))
            contents[split] = _digest(hashes)
    index = {"shape": found.shape, "files": files, "contents": contents, "broken": broken, "images": found.as_json()}
    (folder / _INDEX).write_text(json.dumps(index))
    if broken:
        lines = [f"{printable(name)}\t{printable(why)}\n" for name, why in sorted(broken.items())]
        (folder / _BROKEN).write_text("".join(lines), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class _Findings:
    """What all images together say. shape: (H, W, C) of the records. bits: of wide grey values, where there are any."""

    shape: tuple[int, int, int]
    bits: int | None
    looks: tuple[Looks, ...]

    @classmethod
    def of(cls, census: Census, found: dict[str, Looks], size: int | None) -> "_Findings":
        """Raises DataError where the images cannot have one shape, or would be nearly black."""
        looks = tuple(found.values())
        sizes = sorted({one.size for one in looks})
        if size is None and len(sizes) > 1:
            raise glance.mixed(census.title, sizes)
        upper = [one.wide_colour for one in looks if one.wide_colour is not None]
        if upper and max(upper) < 64:
            raise DataError(
                f"{census.title}: {len(upper):,} colour images of 16 bits use the lower ones alone; Pillow keeps the "
                f"upper 8, where the brightest of all is {max(upper)}, of 255; convert them to 8 bits"
            )
        largest = [one.largest for one in looks if one.largest is not None]
        width, height = (size, size) if size else sizes[0] if sizes else (0, 0)
        channels = 1 if all(one.grey for one in looks) else 3
        return cls((height, width, channels), bits_for(max(largest)) if largest else None, looks)

    def as_json(self) -> dict[str, Any]:
        sizes = sorted({one.size for one in self.looks}, key=lambda size: (size[0] * size[1], size))
        return {
            "shape": list(self.shape),
            "sizes": len(sizes),
            "smallest": sizes[:1],
            "largest": sizes[-1:],
            "modes": dict(Counter(one.mode for one in self.looks).most_common()),
            "bits": self.bits,
            "several": sum(one.several for one in self.looks),
        }


def _pixels(path: Path, size: int | None, found: _Findings) -> tuple[str, np.ndarray]:
    """The SHA-256 of a file and its pixels, of the shape that all have."""
    data = path.read_bytes()
    pixels = read_image(data, size, grey=found.shape[-1] == 1, bits=found.bits or 16)
    if pixels.shape != found.shape:
        raise ValueError(f"{pixels.shape[1]}x{pixels.shape[0]} pixels when decoded, unlike its header")
    return hashlib.sha256(data).hexdigest(), pixels


def _noting(images: Iterator[tuple[str, Any]], hashes: list[tuple[str, str]]) -> Iterator[np.ndarray]:
    for name, (digest, pixels) in images:
        hashes.append((name, digest))
        yield pixels


def _each(
    pool: Executor,
    root: Path,
    broken: dict[str, str],
    function: Callable[[Path], Any],
    names: list[str],
    doing: str,
    chunk: int,
) -> Iterator[tuple[str, Any]]:
    """(name, function's result) of each file; those it fails on are noted in `broken`. At most a chunk in memory."""

    def attempt(name: str) -> Any:
        try:
            return function(root / name)
        except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
            return error

    chunks = (names[start : start + chunk] for start in range(0, len(names), chunk))
    results = (pair for part in chunks for pair in zip(part, pool.map(attempt, part), strict=True))
    for name, result in progress(results, doing, len(names)):
        if isinstance(result, Exception):
            broken[name] = reason(result)
        else:
            yield name, result


def _write_records(folder: Path, prefix: str, images: Iterator[np.ndarray]) -> list[tuple[str, int]]:
    """Write arrays of one shape as raw bytes, into files of bounded size: (name, records) of each."""
    files: list[tuple[str, int]] = []
    while (first := next(images, None)) is not None:
        name, count = f"{prefix}-{len(files):05d}.tfrecord", 0
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for pixels in chain([first], islice(images, _SHARD // first.nbytes)):
                writer.write(pixels.tobytes())
                count += 1
        files.append((name, count))
    return files


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
