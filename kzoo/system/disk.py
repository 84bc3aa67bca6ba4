"""What a disk refuses, in one line: full, read-only, not ours, faulty, too many files open. Without TensorFlow."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kzoo.errors import KzooError

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it accessible, or choose another place"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files: ulimit -n"),
    errno.EFBIG: "raise the limit of the size of files: ulimit -f",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "the disk is faulty; choose another place",
}
IN_THE_WAY = frozenset({errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY})
_WORDS = {os.strerror(number): number for number in _REMEDIES}
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # numpy's words, which leave the reason out


def refusal(error: BaseException) -> int | None:
    """The number (as in `errno`) of what the disk refused, where that is what an exception is about; else None.

    h5py and TensorFlow keep the reason in their text alone: it is read there.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _REMEDIES else None
    if not isinstance(error, OSError) and not type(error).__module__.startswith("tensorflow."):
        return None
    text = str(error)
    if _SHORT_WRITE.search(text):
        return errno.ENOSPC
    return next((number for words, number in _WORDS.items() if words in text), None)


def told(error: BaseException) -> str | None:
    """A refusal of the disk as one line: the file where it is known, what, and what to do. None for what is none.

    A file where a folder should be, or the reverse, is one too.
    """
    number, name = refusal(error), getattr(error, "filename", None)
    if number is None and isinstance(error, OSError) and error.errno in IN_THE_WAY:
        place = error.filename2 or error.filename  # of a renaming, the name that was to be had
        return f"{os.fsdecode(place)}: {error.strerror}; something else lies there; move it away" if place else None
    if number is None:
        return None
    place = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) else ""
    return f"{place}{os.strerror(number)}; {_REMEDIES[number]}"


@contextmanager
def writing(place: Path, error: type[KzooError], remedy: str = "") -> Iterator[None]:
    """Say of a refusal of the disk that `place` cannot be written, and what to do, as an `error`.

    remedy: more to do than the reason says. A refusal that names a file elsewhere is about that file.
    """
    try:
        yield
    except Exception as cause:
        number = refusal(cause)
        if number is None:
            raise
        name = getattr(cause, "filename", None)
        if isinstance(name, str) and Path(place) not in (Path(name), *Path(name).parents):
            raise error(str(told(cause))) from cause
        do = f"{_REMEDIES[number]}; {remedy}" if remedy else _REMEDIES[number]
        raise error(f"{place}: cannot be written: {os.strerror(number)}; {do}") from cause
