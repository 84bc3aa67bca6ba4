"""What PyAV (FFmpeg) reads of one video file: an index of its frames, and then those that were chosen."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from kzoo_temporal.data.memory import give_back

SUFFIXES = (
    ".avi",
    ".flv",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".ogv",
    ".ts",
    ".webm",
    ".wmv",
)
_LEAST = 0.9  # share of the chosen frames that a file must have when it is decoded
_TOGETHER = 256  # frames that are written before their memory is given back
_SLACK = 1e-4  # seconds by which a frame may come later than asked for


@dataclass(frozen=True)
class Index:
    """Of each frame, in the order of display: when it is shown, in ticks and in seconds from the first one's, and
    whether decoding can begin with it.
    """

    ticks: np.ndarray
    seconds: np.ndarray
    key: np.ndarray

    def at_rate(self, rate: float | None) -> np.ndarray:
        """The numbers of the frames that are seen `rate` times a second, none: of all.

        At each moment it is the last one that has begun, so that any spacing of frames gives an even clip; where a
        frame is shown for long, it comes more than once.
        """
        if rate is None:
            return np.arange(len(self.ticks))
        moments = np.arange(int(self.seconds[-1] * rate + _SLACK) + 1) / rate
        return np.searchsorted(self.seconds, moments + _SLACK, side="right") - 1


def index_of(path: Path) -> Index:
    """Read the headers of a file's packets; no frame is decoded. Raises ValueError, which says what is wrong."""
    if not path.stat().st_size:
        raise ValueError("an empty file")
    with _opened(path) as container:
        stream = _video_of(container)
        found = [
            (packet.pts if packet.pts is not None else packet.dts, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.size and (packet.pts is not None or packet.dts is not None)
        ]
        if not found:
            raise ValueError("a video without a frame")
        ticks, key = (np.array(column) for column in zip(*sorted(found), strict=True))
        return Index(ticks, (ticks - ticks[0]) * float(stream.time_base), key)


def read_frames(path: Path, index: Index, chosen: np.ndarray, out: np.ndarray) -> int:
    """Decode the frames of these numbers, which do not fall, into uint8 `[n, H, W, 3]`. Returns how many there were.

    Each is scaled so that it covers H x W, and its middle is taken. Where a key frame lies between one and the next,
    what comes before that is not decoded; one frame at a time is held. Raises ValueError where it cannot be decoded.
    """
    done, reached, keys = 0, -1, np.flatnonzero(index.key)
    with _opened(path) as container:
        stream = _video_of(container)
        stream.thread_type = "AUTO"
        frames = container.decode(stream)
        try:
            while done < len(chosen):
                wanted = chosen[done]
                before = keys[np.searchsorted(keys, wanted, side="right") - 1] if len(keys) and keys[0] <= wanted else 0
                if before > reached + 1:
                    container.seek(int(index.ticks[before]), stream=stream)
                    frames = container.decode(stream)
                frame = next((one for one in frames if (one.pts or 0) >= index.ticks[wanted]), None)
                if frame is None:
                    break
                reached = int(np.searchsorted(index.ticks, frame.pts or 0, side="right")) - 1
                alike = int(np.searchsorted(chosen, reached, side="right"))  # the same frame, seen again
                out[done:alike] = _fitted(frame, *out.shape[1:3])
                if alike // _TOGETHER > done // _TOGETHER:
                    give_back(out)
                done = alike
        except av.error.FFmpegError as error:
            raise ValueError(f"cannot be decoded at {index.seconds[wanted]:.1f} s: {error.strerror}") from None
    if done < _LEAST * len(chosen):
        raise ValueError(f"cut short: {done:,} of {len(chosen):,} frames can be decoded")
    return done


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with av.open(str(path)) as container:
            yield container
    except av.error.FFmpegError as error:
        raise ValueError(f"no video that FFmpeg can read: {error.strerror}") from None


def _video_of(container: Any) -> Any:
    if not container.streams.video:
        raise ValueError("audio alone, no video" if container.streams.audio else "no video in it")
    return container.streams.video[0]


def _fitted(frame: Any, height: int, width: int) -> np.ndarray:
    """A frame upright, scaled so that it covers height x width, and the middle of that."""
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    high, wide = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
    scale = max(height / high, width / wide)
    high, wide = max(height, round(high * scale)), max(width, round(wide * scale))
    rows, columns = (wide, high) if turns % 2 else (high, wide)
    pixels = frame.to_ndarray(width=columns, height=rows, format="rgb24", interpolation="AREA")
    top, left = (high - height) // 2, (wide - width) // 2
    return np.rot90(pixels, turns)[top : top + height, left : left + width]
