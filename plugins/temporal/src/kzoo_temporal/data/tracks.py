"""Patches followed through real clips: where what moves in a box has gone some frames later.

Boxes on a grid are kept where a quarter to three quarters of their pixels move against the camera (Wang and Gupta 2015,
section 3); a box then moves each frame by the mean flow of those pixels. The flow is scikit-image's (iterative
Lucas-Kanade). Tracks are made once, and kept in the cache.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from skimage.registration import optical_flow_ilk

from kzoo.data import Source, cache_dir, prepare_once, progress
from kzoo.errors import DataError
from kzoo_temporal.data.clips import digest_of, video_source
from kzoo_temporal.data.samples import sample_files
from kzoo_temporal.data.video_files import in_time, prepare
from kzoo_temporal.options import ClipOptions, TracksOptions

_FORMAT = 1  # of the cache
_MOVES = 0.5  # pixels a frame, against the camera's own movement
_SHARE = 0.25, 0.75  # of a box's pixels that move
_EVERY = 5  # frames between the beginnings of tracks


def tracks(split: str, options: TracksOptions) -> Source:
    """The first and the last patch of each track, as a clip of two frames. The label is the video; of each of its
    shots, the beginning trains and the end tests, and no frame is in both.
    """
    files = sample_files(options.names)
    root = Path(os.path.commonpath([file.parent for file in files]))
    clip_options = ClipOptions(size=options.height, width=options.width, fps=options.fps)
    prepared = prepare(root, [str(file.relative_to(root)) for file in files], clip_options)
    if prepared.broken:
        raise DataError(f"tracks: {'; '.join(f'{name}: {why}' for name, why in prepared.broken.items())}")
    key = digest_of(_FORMAT, prepared.digest, options.patch, options.length, options.stride)
    folder = cache_dir() / "tracks" / key[:32]
    prepare_once(folder, lambda scratch: _write(scratch / "kept", prepared.pixels, prepared.ranges, options))
    found = np.load(folder / "tracks.npy")  # shot, first frame, its row and column, last row and column
    ranges = in_time("tracks", prepared.ranges, split, options.test_fraction)
    start, stop = ranges[found[:, 0]].T
    found = found[(found[:, 1] >= start) & (found[:, 1] + options.length <= stop)]
    if not len(found):
        raise DataError(f"tracks: split '{split}' has no track of {options.length} frames; lower data.options.length")
    ends = [(found[:, 1], found[:, 2], found[:, 3]), (found[:, 1] + options.length - 1, found[:, 4], found[:, 5])]
    rows = np.arange(options.patch)
    patches = [
        prepared.pixels[frame[:, None, None], (y[:, None] + rows)[:, :, None], (x[:, None] + rows)[:, None]]
        for frame, y, x in ends
    ]
    pixels = np.stack(patches, axis=1).reshape(-1, options.patch, options.patch, 3)
    seconds = np.stack([prepared.seconds[frame] for frame, _, _ in ends], axis=1).reshape(-1)
    first, clip = 2 * np.arange(len(found)), found[:, 0]
    digest, labels = digest_of(key, split, options.test_fraction), prepared.files[clip]
    return video_source("tracks", pixels, seconds, first, 2, clip, labels, options.names, digest=digest)


def followed(frames: np.ndarray, patch: int, length: int, stride: int) -> Iterator[tuple[int, int, int, int, int]]:
    """First frame, its row and column, last row and column, of each track in `frames`, uint8 `[n, H, W, 3]`."""
    grey = frames.mean(axis=-1, dtype=np.float32) / 255
    boxes = np.zeros((0, 5))  # first frame, row and column then, row and column now
    for number in range(len(grey) - 1):
        flow = np.stack(optical_flow_ilk(grey[number], grey[number + 1], radius=5))
        sums = _sums(flow)
        if number % _EVERY == 0 and number + length <= len(grey):
            boxes = np.concatenate([boxes, _beginnings(sums, number, patch, stride, grey.shape[1:])])
        if len(boxes):
            boxes[:, 3:] += _movement(sums, np.rint(boxes[:, 3:]).astype(int), patch)[1]
            inside = (boxes[:, 3:] >= 0) & (np.rint(boxes[:, 3:]) <= np.array(grey.shape[1:]) - patch)
            boxes = boxes[inside.all(axis=1)]
        done = boxes[:, 0] + length - 1 == number + 1
        yield from (tuple(row) for row in np.rint(boxes[done]).astype(int).tolist())
        boxes = boxes[~done]


def _sums(flow: np.ndarray) -> np.ndarray:
    """Sums over all boxes from the corner, `[4, H + 1, W + 1]`: pixels that move, their flow in rows and columns, and
    the whole frame's own movement, which stands in the corner of the last.
    """
    camera = np.median(flow, axis=(1, 2))
    moves = np.hypot(*(flow - camera[:, None, None])) > _MOVES
    sums = np.zeros((4, flow.shape[1] + 1, flow.shape[2] + 1))
    sums[:3, 1:, 1:] = np.cumsum(np.cumsum([moves, flow[0] * moves, flow[1] * moves], axis=1), axis=2)
    sums[3, 0, :2] = camera
    return sums


def _movement(sums: np.ndarray, corners: np.ndarray, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each box, how many pixels move, and by how much on average; where none does, the camera's movement."""
    y, x = corners.T
    count, down, across = (
        one[y + patch, x + patch] - one[y, x + patch] - one[y + patch, x] + one[y, x] for one in sums[:3]
    )
    mean = np.stack([down, across], axis=1) / np.maximum(count, 1)[:, None]
    return count, np.where(count[:, None] > 0, mean, sums[3, 0, :2])


def _beginnings(sums: np.ndarray, number: int, patch: int, stride: int, shape: tuple[int, ...]) -> np.ndarray:
    """The boxes of the grid in which something moves, and not all of it."""
    places = [np.arange(0, side - patch + 1, stride) for side in shape]
    corners = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, 2)
    share = _movement(sums, corners, patch)[0] / patch**2
    kept = corners[(share >= _SHARE[0]) & (share <= _SHARE[1])]
    return np.concatenate([np.full((len(kept), 1), number), kept, kept], axis=1).astype(float)


def _write(folder: Path, pixels: np.ndarray, ranges: np.ndarray, options: TracksOptions) -> Path:
    folder.mkdir()
    found = []
    for number, (start, stop) in enumerate(progress(ranges, "Following what moves", len(ranges))):
        for first, *places in followed(pixels[start:stop], options.patch, options.length, options.stride):
            found.append([number, start + first, *places])
    np.save(folder / "tracks.npy", np.array(found, np.int64).reshape(-1, 6))
    (folder / "index.json").write_text(json.dumps({"tracks": len(found)}))
    return folder
