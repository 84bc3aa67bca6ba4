"""Rectified stereo pairs of one's own, for the recipe name `stereo:<path>`.

A folder holds the left pictures, another the right ones, under the same names: `left` and `right`, or KITTI's
`image_02` and `image_03` (or `image_2`, `image_3`). Both lie in the folder itself, or in its sub-folders, which then
are the splits. All are scaled once, and kept in the cache.
"""

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kzoo.data import Source, cache_dir, prepare_once, progress
from kzoo.errors import DataError, NoSplit, printable
from kzoo.folder import hash_share
from kzoo.folder.glance import told, unreadable
from kzoo.folder.layout import TEST, TRAIN, some, split_kind
from kzoo_temporal.data.clips import digest_of, stereo_source
from kzoo_temporal.options import StereoFileOptions

_SIDES = (("left", "right"), ("image_02", "image_03"), ("image_2", "image_3"))
_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"))
_FORMAT = 1  # of the cache


def stereo_files(path: str, split: str, options: StereoFileOptions) -> Source:
    """The pairs of a split. Raises DataError: no such folder or split, no pair, pictures without a partner, or that
    cannot be read or differ in size (unless `options.skip_broken`: then a warning).
    """
    title, root = printable(f"stereo:{path}"), Path(path).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"{title}: no such folder")
    broken: dict[str, str] = {}
    splits = {name: list(_pairs(root, folder, broken)) for name, folder in _splits(root)}
    if not any(splits.values()):
        names = " or ".join(f"{left} and {right}" for left, right in _SIDES)
        raise DataError(f"{title}: holds no pair; put the pictures of each side, named alike, into {names}")
    if list(splits) == [""]:
        held = {pair for pair in splits[""] if hash_share(pair[0]) < options.test_fraction}
        splits = {name: [pair for pair in splits[""] if (pair in held) == (name == TEST)] for name in (TRAIN, TEST)}
    if not splits.get(split):
        raise NoSplit(f"{title}: no split '{printable(split)}'; it has {some(sorted(n for n in splits if splits[n]))}")
    shape = options.size, options.width or options.size
    pictures, found, key = _prepared(root, splits[split], shape)
    if broken := {**broken, **found}:
        if not options.skip_broken:
            raise unreadable(title, broken)
        warnings.warn(f"{title}: left out {told(broken)}")
    if not len(pictures):
        raise DataError(f"{title}: no pair of split '{printable(split)}' can be read")
    return stereo_source(title, pictures[:, 0], pictures[:, 1], digest=key)


def _splits(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of each split; "" where the folder has none."""
    if any((root / left).is_dir() for left, _ in _SIDES):
        yield "", root
        return
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        yield split_kind(folder.name) or folder.name, folder


def _pairs(root: Path, folder: Path, broken: dict[str, str]) -> Iterator[tuple[str, str]]:
    for sides in _SIDES:
        if all((folder / side).is_dir() for side in sides):
            left, right = ({path.name for path in (folder / side).iterdir() if _wanted(path)} for side in sides)
            place = folder.relative_to(root)
            for name in sorted(left ^ right):
                has = sides[name in right]
                broken[(place / has / name).as_posix()] = f"no picture of this name in {sides[name not in right]}"
            yield from (tuple((place / side / name).as_posix() for side in sides) for name in sorted(left & right))


def _wanted(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")


def _prepared(
    root: Path, pairs: Sequence[tuple[str, str]], shape: tuple[int, int]
) -> tuple[np.ndarray, dict[str, str], str]:
    """The pairs that can be read, uint8 `[n, 2, H, W, 3]` on disk; why others cannot; what names them."""
    stamps = [(name, (root / name).stat().st_mtime_ns, (root / name).stat().st_size) for pair in pairs for name in pair]
    key = digest_of(_FORMAT, str(root), stamps, shape)

    def write(scratch: Path) -> Path:
        folder = scratch / "kept"
        folder.mkdir()
        broken, count = {}, 0
        with (
            ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
            (folder / "pairs.raw").open("wb") as raw,
        ):
            read = pool.map(lambda pair: _read(root, pair, shape), pairs)
            for pair, found in zip(pairs, progress(read, "Preparing the pairs", len(pairs)), strict=True):
                if isinstance(found, str):
                    broken[pair[0]] = found
                else:
                    raw.write(found.tobytes())
                    count += 1
        (folder / "index.json").write_text(json.dumps({"count": count, "broken": broken}))
        return folder

    folder = cache_dir() / "stereo" / key[:32]
    prepare_once(folder, write)
    index = json.loads((folder / "index.json").read_text())
    if not index["count"]:
        return np.zeros((0, 2, *shape, 3), np.uint8), index["broken"], key
    pictures = np.memmap(folder / "pairs.raw", np.uint8, "r", shape=(index["count"], 2, *shape, 3))
    return pictures, index["broken"], key


def _read(root: Path, pair: tuple[str, str], shape: tuple[int, int]) -> np.ndarray | str:
    """Both pictures, uint8 `[2, H, W, 3]`, or what is wrong."""
    pictures = []
    for name in pair:
        try:
            with Image.open(root / name) as image:
                pictures.append(image.convert("RGB"))
        except Exception as error:  # Pillow raises nearly anything on a broken file
            return str(error) if str(error) else type(error).__name__
    if pictures[0].size != pictures[1].size:
        return f"{pictures[0].size} pixels on the left, {pictures[1].size} on the right"
    return np.stack([np.asarray(ImageOps.fit(picture, shape[::-1], Image.Resampling.BOX)) for picture in pictures])
