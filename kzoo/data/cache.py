"""Folders that take a while to make: made once, beside their place, and renamed into it when whole."""

import json
import os
import shutil
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from rich.progress import track

from kzoo.errors import DataError, printable
from kzoo.system import disk
from kzoo.system.console import make_console, marked

Item = TypeVar("Item")

_MANIFEST = "complete.json"
_CHECKSUM_LIMIT = 256 << 20  # bytes; larger files are checked by their size alone, to keep the start short
_REMEDY = "set KZOO_CACHE to a folder you can write to"
_ABANDONED = 24 * 3600  # seconds after which the leavings of a killed preparation are swept


def cache_dir() -> Path:
    """Where kzoo keeps what it prepared: the environment variable KZOO_CACHE, else `~/.cache/kzoo`."""
    try:
        return Path(os.environ.get("KZOO_CACHE") or "~/.cache/kzoo").expanduser()
    except RuntimeError:  # an account without a home, as in many containers
        raise DataError(f"no home folder to keep prepared data in; {_REMEDY}") from None


def prepare_once(folder: Path, write: Callable[[Path], Path]) -> Path:
    """A folder that holds what `write` makes; made now if it is missing or damaged. Returns `folder`.

    write: called with an empty folder to work in; returns the one, inside it, to keep.

    An interrupted preparation leaves nothing that is trusted later: the folder appears by one rename, together with a
    list of its files, their sizes and checksums, which is checked at every call. Of two processes that prepare at once,
    the second takes what the first has put there. Raises DataError where the cache cannot be written.
    """
    if _intact(folder):
        return folder
    if folder.exists():
        warnings.warn(f"{printable(str(folder))}: damaged; preparing it again")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=_scratch_prefix(folder), dir=folder.parent))
    except OSError as error:
        raise DataError(f"{folder.parent}: {error.strerror}; {_REMEDY}") from error
    with disk.writing(folder.parent, DataError, _REMEDY):
        _prepare(folder, scratch, write)
    return folder


def _prepare(folder: Path, scratch: Path, write: Callable[[Path], Path]) -> None:
    try:
        _sweep(folder, scratch)
        made = write(scratch)
        (made / _MANIFEST).write_text(json.dumps(_contents(made)))
        if folder.exists() and not _intact(folder):
            folder.rename(scratch / "damaged")
        try:
            made.rename(folder)
        except OSError:
            if not _intact(folder):  # else another process was first, and made the same
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a progress bar on the standard error while they are taken, where that is a terminal."""
    console = make_console(stderr=True)
    return iter(
        track(items, marked(description), total=total, console=console, transient=True, disable=not sys.stderr.isatty())
    )


def _scratch_prefix(folder: Path) -> str:
    return f".{folder.name}-"


def _sweep(folder: Path, ours: Path) -> None:
    for path in folder.parent.glob(f"{_scratch_prefix(folder)}*"):
        if path != ours and time.time() - path.stat().st_mtime > _ABANDONED:
            shutil.rmtree(path, ignore_errors=True)


def _contents(folder: Path) -> dict[str, list[int | None]]:
    """Size and CRC-32 (None for large files) of every file but the list itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / _MANIFEST)
    return {path.relative_to(folder).as_posix(): _fingerprint(path) for path in files}


def _fingerprint(path: Path) -> list[int | None]:
    size = path.stat().st_size
    return [size, zlib.crc32(path.read_bytes()) if size <= _CHECKSUM_LIMIT else None]


def _intact(folder: Path) -> bool:
    try:
        return json.loads((folder / _MANIFEST).read_text()) == _contents(folder)
    except (OSError, ValueError):
        return False
