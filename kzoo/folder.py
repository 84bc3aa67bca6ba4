"""A folder of image files of any kind, as records of raw pixels that all have one shape.

Every file is read with Pillow, checked, turned upright, brought to one size and written to the cache as raw bytes,
once; training then reads those records at the speed of the disk.
"""

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kzoo.cache import cache_dir, prepare_once, progress
from kzoo.errors import DataError
from kzoo.images import look, read_image, reason, suffixes
from kzoo.options import FolderOptions
from kzoo.source import Batch, Source, record_examples

_SPLITS = frozenset({"train", "test", "val", "valid", "validation"})
_SHARD = 128 << 20  # bytes in one file of records
_CHUNK = 256  # images decoded before they are written: bounds the memory
_UNUSED = 30 * 24 * 3600  # seconds since its last start, after which the records of a changed folder are removed
_FORMAT = 1  # of the cache; raised when what is written, or how it is made, changes


@dataclass(frozen=True)
class FolderRecords:
    """Images in TFRecord files, in the order of their sorted relative paths; one record is H * W * C bytes.

    files: path and number of records of each. shape: (H, W, C). labels: one per record, -1 = unlabelled.
    classes: the names that labels index. skipped: relative paths of broken files that were left out.
    digest: of the names, sizes and labels of the files. census: what lies in the folder.
    """

    files: tuple[tuple[Path, int], ...]
    shape: tuple[int, int, int]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    skipped: tuple[str, ...]
    digest: str
    census: dict[str, Any]


def folder_records(path: str, split: str, options: FolderOptions) -> FolderRecords:
    """Read a split of a folder of images, from the cache where neither its files nor the options changed.

    The first level of sub-folders gives the labels; a folder with fewer than two is unlabelled. Where the sub-folders
    are train and test (or val, valid, validation), they are the splits, and the labels lie one level below; else the
    split test is a share of the files, `options.test_fraction`: those with the lowest hashes of their relative paths.

    Raises DataError: no such folder or split, no image, broken files (unless `options.skip_broken`), sizes that differ.
    """
    root = Path(path).expanduser().resolve()
    title = f"folder:{path}"
    if not root.is_dir():
        raise DataError(f"{title}: no such folder")
    names, labels, classes = _members(root, title, split, options.test_fraction)
    stamps = [(name, stat.st_size, stat.st_mtime_ns) for name in names for stat in [(root / name).stat()]]
    place = cache_dir() / "folders" / _digest(str(root), split, options.size)
    folder = place / _digest(_FORMAT, options.skip_broken, stamps)
    prepare_once(folder, lambda scratch: _write(scratch / folder.name, root, title, names, options))
    os.utime(folder)
    for other in place.iterdir():  # of the folder as it was before; a run may still be reading it
        if time.time() - other.stat().st_mtime > _UNUSED:
            shutil.rmtree(other, ignore_errors=True)
    index = json.loads((folder / "index.json").read_text())
    skipped = set(index["skipped"])
    if skipped:
        warnings.warn(f"{title}: left out {_counted(index['skipped'])}")
    used = [(name, size, label) for (name, size, _), label in zip(stamps, labels, strict=True) if name not in skipped]
    census = {"folder": str(root), "split": split, "classes": list(classes), "used": len(used)}
    return FolderRecords(
        files=tuple((folder / name, count) for name, count in index["files"]),
        shape=tuple(index["shape"]),
        labels=tuple(label for name, label in zip(names, labels, strict=True) if name not in skipped),
        classes=classes,
        skipped=tuple(index["skipped"]),
        digest=hashlib.sha256(json.dumps([used, classes, options.size]).encode()).hexdigest(),
        census=census,
    )


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
    examples = record_examples(files, size * int(np.prod(records.shape)))
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


def _members(root: Path, title: str, split: str, test_fraction: float) -> tuple[list[str], list[int], tuple[str, ...]]:
    """The relative paths of a split's images, sorted, their labels, and the classes, which all splits share."""
    every = sorted(_images(root))
    if not every:
        raise DataError(f"{title}: holds no image ({', '.join(sorted(suffixes()))})")
    tops = {name.split("/")[0] for name in every if "/" in name}
    if "train" in tops and tops <= _SPLITS:
        if split not in tops:
            raise DataError(f"{title}: no split '{split}'; it has {', '.join(sorted(tops))}")
        every = [name for name in every if "/" in name]
        chosen = [name for name in every if name.startswith(f"{split}/")]
        depth = 1
    else:
        if split not in ("train", "test"):
            raise DataError(f"{title}: no split '{split}'; it has train, test")
        chosen = [name for name in every if (_share(name) < test_fraction) == (split == "test")]
        depth = 0
        if not chosen:
            raise DataError(f"{title}: none of its {len(every)} images falls to split '{split}'; add images or splits")
    parts = {name: name.split("/") for name in every}
    classes = tuple(sorted({part[depth] for part in parts.values() if len(part) > depth + 1}))
    if len(classes) < 2:
        return chosen, [-1] * len(chosen), ()
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers[parts[name][depth]] if len(parts[name]) > depth + 1 else -1 for name in chosen]
    return chosen, labels, classes


def _images(root: Path) -> Iterator[str]:
    known = suffixes()
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in known:
                yield (Path(folder) / name).relative_to(root).as_posix()


def _write(folder: Path, root: Path, title: str, names: list[str], options: FolderOptions) -> Path:
    """Decode all images into files of records and an index."""
    folder.mkdir()
    broken: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        read = partial(_each, pool, root, broken)
        headers = dict(read(look, names, "Looking at the images"))
        sizes = sorted({looks.size for looks in headers.values()})
        if options.size is None and len(sizes) > 1:
            first, last = (f"{width}x{height}" for width, height in (sizes[0], sizes[-1]))
            raise DataError(f"{title}: images of {len(sizes)} sizes, from {first} to {last}; set data.options.size")
        grey = all(looks.grey for looks in headers.values())
        decode = partial(read_image, size=options.size, grey=grey)
        files, shape = _write_records(
            folder, (pixels for _, pixels in read(decode, list(headers), "Preparing the images"))
        )
    if broken and not options.skip_broken:
        reason = broken[min(broken)]
        raise DataError(
            f"{title}: cannot read {_counted(sorted(broken))} ({reason}); repair or remove them, "
            "or set data.options.skip_broken"
        )
    if not files:
        raise DataError(f"{title}: none of its {len(names)} images can be read")
    (folder / "index.json").write_text(json.dumps({"shape": shape, "files": files, "skipped": sorted(broken)}))
    return folder


def _each(
    pool: Executor, root: Path, broken: dict[str, str], function: Callable[[Path], Any], names: list[str], doing: str
) -> Iterator[tuple[str, Any]]:
    """(name, function's result) of each file; those it fails on are noted in `broken`. A bounded number in memory."""

    def attempt(name: str) -> Any:
        try:
            return function(root / name)
        except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
            return error

    chunks = (names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK))
    results = (pair for chunk in chunks for pair in zip(chunk, pool.map(attempt, chunk), strict=True))
    for name, result in progress(results, doing, len(names)):
        if isinstance(result, Exception):
            broken[name] = reason(result)
        else:
            yield name, result


def _write_records(folder: Path, images: Iterator[np.ndarray]) -> tuple[list[tuple[str, int]], tuple[int, ...]]:
    """Write arrays of one shape as raw bytes, into files of bounded size: (name, records) of each, and the shape."""
    files: list[tuple[str, int]] = []
    shape: tuple[int, ...] = ()
    while (first := next(images, None)) is not None:
        shape = first.shape
        name, count = f"{len(files):05d}.tfrecord", 0
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for pixels in chain([first], islice(images, _SHARD // first.nbytes)):
                writer.write(pixels.tobytes())
                count += 1
        files.append((name, count))
    return files, shape


def _share(name: str) -> float:
    """A number in [0, 1) that the name alone decides."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:20]


def _counted(names: list[str]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} broken file{'s' * (len(names) != 1)}: {shown}"
