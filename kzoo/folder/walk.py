"""The files below a folder: those that are used, and why the others are not. Names and links alone are read."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kzoo.errors import printable

# why files are left out that are no fault, beside their suffix
HIDDEN, OUTSIDE = "hidden", "in no split"
AGAIN, AGAIN_FOLDER = "linked again", "folder linked again"

_SPECIAL = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_LINKS = {errno.ENOENT: "a link to nothing", errno.ENOTDIR: "a link to nothing", errno.ELOOP: "a link to itself"}


@dataclass(frozen=True)
class File:
    """A file that is used.

    name: its path relative to the folder, with "/". size: in bytes. changed: when its content last did, in nanoseconds.
    identity: its device and inode. shared: 0 where this is its only name, 1 where it has others, 2 where it was
    reached through a link.
    label: the name of its class, None = unlabelled.
    """

    name: str
    size: int
    changed: int
    identity: tuple[int, int]
    shared: int
    label: str | None = None


def walk(root: Path, suffixes: frozenset[str], left_out: Counter[str], broken: dict[str, str]) -> Iterator[File]:
    """The files that end in one of the suffixes; others are counted in `left_out`, or named in `broken` with a reason.

    root: an absolute path without links. Links are followed, but to no folder that was read already below the same
    first sub-folder: so a circle ends, and two sub-folders may still lead to the same files.
    """
    read: set[tuple[str, Path]] = set()
    folders, linked = [""], list[str]()  # those that lie here are read before those that links lead to
    while folders or linked:
        by_link = not folders
        name = (folders or linked).pop()
        place = (root / name).resolve() if by_link else root / name
        if (name.split("/")[0], place) in read or (name and root.is_relative_to(place)):
            left_out[AGAIN_FOLDER] += 1
            continue
        read.add((name.split("/")[0], place))
        try:
            entries = sorted(os.scandir(root / name), key=lambda entry: entry.name)
        except OSError as error:
            broken[name or "."] = f"a folder that cannot be listed: {error.strerror}"
            continue
        for entry in entries:
            inside, suffix = f"{name}/{entry.name}".lstrip("/"), os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                left_out[HIDDEN] += 1
                continue
            try:
                found = entry.stat()
            except OSError as error:
                if suffix in suffixes or not suffix:  # of a file that would be used, or of a folder
                    broken[inside] = _LINKS.get(error.errno or 0) or str(error.strerror)
                else:
                    left_out[_told(suffix)] += 1
                continue
            is_link = by_link or entry.is_symlink()
            if stat.S_ISDIR(found.st_mode):
                (linked if is_link else folders).append(inside)
            elif suffix not in suffixes:
                left_out[_told(suffix)] += 1
            elif not stat.S_ISREG(found.st_mode):
                broken[inside] = f"{_SPECIAL.get(stat.S_IFMT(found.st_mode), 'something else')}, not a file"
            else:
                shared = (2 if is_link else int(found.st_nlink > 1)) if found.st_ino else 0
                yield File(inside, found.st_size, found.st_mtime_ns, (found.st_dev, found.st_ino), shared)


def once(files: Iterable[File], left_out: Counter[str]) -> tuple[File, ...]:
    """The files, sorted by name, without those that are there under another name; one that is no link is kept."""
    kept: list[File] = []
    seen: set[tuple[int, int]] = set()
    for file in sorted(files, key=lambda file: (file.shared, file.name)):
        if file.shared and file.identity in seen:
            left_out[AGAIN] += 1
        else:
            kept.append(file)
            seen.add(file.identity)
    return tuple(sorted(kept, key=lambda file: file.name))


def _told(suffix: str) -> str:
    return printable(suffix) or "no suffix"
