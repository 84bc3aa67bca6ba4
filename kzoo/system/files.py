"""Writing that loses nothing: beside the place, flushed to the disk, then renamed into it.

What is unfinished has a name that `sweep` knows, so that nothing stays of a process that was killed.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_SCRATCH = ".scratch."
_DAY = 24 * 3600


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write to, which takes the place of `path` when the block ends well; else `path` stays as it was.

    The file keeps the ending of `path` (Keras asks for `.weights.h5`).
    """
    scratch = path.parent / f"{_SCRATCH}{os.getpid()}.{path.name}"
    try:
        yield scratch
        sync(scratch)
        os.replace(scratch, path)
        sync(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `path` when the block ends well. Raises OSError if `path` already holds files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch, handle = _locked_scratch(path)
    try:
        yield scratch
        for file in [*scratch.rglob("*"), scratch]:
            sync(file)
        scratch.chmod(0o755)  # mkdtemp's folders are private
        os.rename(scratch, path)
        sync(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(handle)


def _locked_scratch(path: Path) -> tuple[Path, int]:
    """A folder beside `path` that `sweep_dead` leaves alone until the handle is closed, or this process is dead."""
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{path.name}.", dir=path.parent))
        handle = os.open(scratch, os.O_RDONLY)
        with suppress(OSError):  # the file system has no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if scratch.exists():  # else it was swept before it was locked
            return scratch, handle
        os.close(handle)


def sweep_dead(folder: Path) -> None:
    """Delete the unfinished folders in a folder whose processes are dead, while others may be at work on theirs.

    Where the file system has no locks, only those that nothing touched for a day.
    """
    for scratch in folder.glob(f"{_SCRATCH}*/"):
        with suppress(OSError):  # gone meanwhile, or not ours to delete
            handle = os.open(scratch, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                dead = True
            except BlockingIOError:
                dead = False
            except OSError:
                dead = time.time() - os.fstat(handle).st_mtime > _DAY
            try:
                if dead:
                    shutil.rmtree(scratch)
            finally:
                os.close(handle)


def remove_folder(path: Path) -> None:
    """Delete a folder, or what lies in its place; a process that is killed meanwhile leaves all of it or nothing that
    looks like it.
    """
    if not path.is_dir() or path.is_symlink():
        path.unlink()
        return
    scratch = tempfile.mkdtemp(prefix=f"{_SCRATCH}{path.name}.", dir=path.parent)
    os.rename(path, scratch)
    shutil.rmtree(scratch)


def sweep(folder: Path) -> None:
    """Delete what killed processes left unfinished anywhere below a folder. No other process may be writing there."""
    for scratch in sorted(folder.rglob(f"{_SCRATCH}*"), reverse=True):  # what is inside first
        shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Keep other processes out of a folder; returns whether they are. The lock goes with the process, however it ends.

    Where the file system has no locks, none is kept and the answer is yes.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        except OSError:
            alone = True
        yield alone
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` with `text`."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Replace the file at `path` with JSON. Numbers that JSON does not have, NaN and the infinities, become null."""
    write_text(path, json.dumps(finite(data), indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; {} where there is no such file, or, with a warning, where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        warnings.warn(f"{path}: damaged; it is passed over, and written anew", stacklevel=2)
        return {}
    return found


def finite(data: Any) -> Any:
    """Plain data with None for every number that is not finite."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return data


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have a file or folder reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
