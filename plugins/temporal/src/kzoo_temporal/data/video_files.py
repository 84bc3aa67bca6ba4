"""Video files of one's own, for the recipe name `video:<path>`.

Each file is indexed by the headers of its packets. The chosen frames are then decoded once, in their order, scaled to
the working size and written to a file of raw pixels in kzoo's cache, one frame at a time: clips overlap, and are drawn
anew in each epoch, which by seeking would decode each frame many times. A frame at 64 pixels takes 12 kB of the disk,
an hour at 10 a second 0.44 GB. Training reads its clips from there; a second start decodes nothing. Where a file has
cuts each of its shots is a video of its own: no clip goes across one.
"""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from kzoo.data import Source, cache_dir, prepare_once, progress
from kzoo.errors import DataError, NoSplit, printable
from kzoo.folder.census import Census, survey
from kzoo.folder.glance import told, unreadable
from kzoo.folder.layout import TEST, TRAIN
from kzoo_temporal.data.clips import digest_of, measured, video_source
from kzoo_temporal.data.frames import SUFFIXES, Index, index_of, read_frames
from kzoo_temporal.data.memory import give_back
from kzoo_temporal.options import ClipOptions, VideoFileOptions

_FORMAT = 3  # of the cache; raised when what is written, or how it is made, changes
_CUT = 0.1  # mean change of the pixels, as a share of their range, that may be a cut
_AT_ONCE = 256  # frames in memory while cuts are looked for


@dataclass(frozen=True)
class Prepared:
    """The chosen frames of some files, one after the other.

    pixels: uint8 `[N, H, W, 3]`, on disk. seconds: `[N]`. moved: `[N]`, the motion from each to the next.
    ranges: of each video, its first row and the one after its last, `[m, 2]`: of each shot of a file, or of each file.
    files: the number of the file that each video is of, `[m]`. broken: why, by name. digest: of the frames, and of
    where videos begin.
    """

    pixels: np.ndarray
    seconds: np.ndarray
    moved: np.ndarray
    ranges: np.ndarray
    files: np.ndarray
    broken: dict[str, str]
    digest: str


def video_files(path: str, split: str, options: VideoFileOptions) -> Source:
    """Clips of one video file, or of all those below a folder.

    What the sub-folders are, splits or classes, is found as for images (`kzoo.folder.census`); fewer than two classes:
    unlabelled. Where there are no splits, split test is the end of each shot, `options.test_fraction` of it, and no
    frame is in both. Raises DataError: no such file or split, no video, files that cannot be read (unless
    `options.skip_broken`: then a warning), or none that is long enough for one clip.
    """
    root = Path(path).expanduser()
    census = None if root.is_file() else survey(f"video:{path}", path, SUFFIXES, "video", options.layout)
    title = printable(f"video:{path}") if census is None else census.title
    if not root.exists():
        raise DataError(f"{title}: no such file or folder")
    if census is None:
        by_split: dict[str, list[str]] = {TRAIN: [root.name]}
        labels, root = [-1], root.parent
    else:
        split = census.find(split) if census.layout == "splits" else split
        by_split = {part: [file.name for file in files] for part, files in census.splits.items()}
        labels = census.labels(split if census.layout == "splits" else TRAIN)
    prepared = prepare(root, [name for names in by_split.values() for name in names], options)
    broken = {**(census.broken if census else {}), **prepared.broken}
    if broken:
        if not options.skip_broken:
            raise unreadable(title, broken)
        warnings.warn(f"{title}: left out {told(broken)}")
    return _clips(title, by_split, labels, census, prepared, split, options)


def _clips(
    title: str,
    by_split: dict[str, list[str]],
    labels: list[int],
    census: Census | None,
    prepared: Prepared,
    split: str,
    options: VideoFileOptions,
) -> Source:
    own = census is not None and census.layout == "splits"
    before = 0
    for name, names in by_split.items():
        if own and name != split:
            before += len(names)
        else:
            break
    ours = (prepared.files >= before) & (prepared.files < before + len(labels))
    ranges, files = prepared.ranges[ours], prepared.files[ours] - before
    if not own:
        ranges = in_time(title, ranges, split, options.test_fraction)
    first, clip = windows(title, ranges, split, options)
    facts: dict[str, Any] = {"digest": digest_of(prepared.digest, first, options.length, labels)}
    if census is not None:
        facts["census"] = census.without(prepared.broken).as_json()
    return video_source(
        title,
        prepared.pixels,
        prepared.seconds,
        first,
        options.length,
        clip,
        np.array(labels)[files[clip]],
        tuple(map(printable, census.classes)) if census else (),
        prepared.moved,
        **facts,
    )


def in_time(title: str, ranges: np.ndarray, split: str, test_fraction: float) -> np.ndarray:
    """Of the rows of each video, the beginning for split train, the end for split test."""
    if split not in (TRAIN, TEST):
        raise NoSplit(f"{title}: no split '{printable(split)}'; it has {TRAIN}, {TEST}")
    start, stop = ranges[:, 0], ranges[:, 1]
    border = start + np.round((stop - start) * (1 - test_fraction)).astype(int)
    return np.stack([start, border] if split == TRAIN else [border, stop], axis=1)


def windows(title: str, ranges: np.ndarray, split: str, options: ClipOptions) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each clip that fits into the rows of a video, and the video's number."""
    starts = [np.arange(start, stop - options.length + 1, options.step) for start, stop in ranges]
    first = np.concatenate([np.zeros(0, int), *starts])
    if not len(first):
        longest = max((stop - start for start, stop in ranges), default=0)
        raise DataError(
            f"{title}: split '{printable(split)}' has no clip of {options.length} frames; the longest part has "
            f"{longest}; lower data.options.length, or set fps"
        )
    return first, np.repeat(np.arange(len(ranges)), [len(some) for some in starts])


def prepare(root: Path, names: Sequence[str], options: ClipOptions) -> Prepared:
    """The chosen frames of these files, decoded now where they are not in the cache."""
    shape = options.size, options.width or options.size
    stamps = [(name, (root / name).stat().st_size, (root / name).stat().st_mtime_ns) for name in names]
    key = digest_of(_FORMAT, av.__version__, str(root.resolve()), stamps, shape, options.fps)
    folder = cache_dir() / "video" / key[:32]
    prepare_once(folder, lambda scratch: _write(scratch / "kept", root, names, shape, options.fps))
    found = json.loads((folder / "index.json").read_text())
    seconds = np.load(folder / "seconds.npy")
    moved = np.load(folder / "moved.npy")
    pixels = np.memmap(folder / "frames.raw", np.uint8, "r", shape=(max(1, len(seconds)), *shape, 3))
    videos = np.array(found["shots" if options.shots else "files"]).reshape(-1, 3)
    digest = digest_of(key, options.shots)
    return Prepared(pixels, seconds, moved, videos[:, 1:], videos[:, 0], found["broken"], digest)


def _write(folder: Path, root: Path, names: Sequence[str], shape: tuple[int, int], fps: float | None) -> Path:
    folder.mkdir()
    broken: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:

        def each(function: Callable[[str], Any], doing: str) -> dict[str, Any]:
            tried = zip(names, pool.map(lambda name: _attempt(function, name), names), strict=True)
            results = dict(progress(tried, doing, len(names)))
            broken.update({name: str(found) for name, found in results.items() if isinstance(found, Exception)})
            return results

        def index(name: str) -> Index:
            return index_of(root / name)

        found = {name: one for name, one in each(index, "Indexing the videos").items() if name not in broken}
        chosen = {name: one.at_rate(fps) for name, one in found.items()}
        starts = dict(zip(chosen, np.cumsum([0, *map(len, chosen.values())]).tolist(), strict=False))
        total = sum(map(len, chosen.values()))
        pixels = np.memmap(folder / "frames.raw", np.uint8, "w+", shape=(max(1, total), *shape, 3))

        def decode(name: str) -> int:
            if name not in chosen:
                raise ValueError(broken[name])
            start = starts[name]
            return read_frames(root / name, found[name], chosen[name], pixels[start : start + len(chosen[name])])

        done = each(decode, "Preparing the videos")
    pixels.flush()
    files, shots = [], []
    for number, name in enumerate(names):
        if name not in broken:
            start, stop = starts[name], starts[name] + done[name]
            borders = [start, *(start + cuts(pixels[start:stop])).tolist(), stop]
            files.append((number, start, stop))
            shots += [(number, *one) for one in pairwise(borders)]
    seconds = [found[name].seconds[chosen[name]] for name in chosen]
    np.save(folder / "seconds.npy", np.concatenate([np.zeros(0), *seconds]))
    np.save(folder / "moved.npy", measured(pixels))
    (folder / "index.json").write_text(json.dumps({"files": files, "shots": shots, "broken": broken}))
    return folder


def cuts(pixels: np.ndarray) -> np.ndarray:
    """The frames of uint8 `[n, H, W, 3]` that a new shot begins with: those that differ from the one before by more
    than a tenth of the range, and more than twice as much as both neighbours do from theirs.
    """
    changes = np.zeros(len(pixels) + 1)  # of each frame from the one before; 0 at the ends
    last = pixels[:1].astype(np.int16)
    for number in range(1, len(pixels)):
        frame = pixels[number : number + 1].astype(np.int16)
        changes[number] = np.abs(frame - last).mean() / 255
        last = frame
        if number % _AT_ONCE == 0:
            give_back(pixels)
    change, beside = changes[1:-1], np.maximum(changes[:-2], changes[2:])
    return 1 + np.flatnonzero((change > _CUT) & (change > 2 * beside))


def _attempt(function: Callable[[str], Any], name: str) -> Any:
    try:
        return function(name)
    except (ValueError, OSError) as error:
        return error
