"""Files of raw pixels that are larger than memory."""

import mmap
from typing import Any

import numpy as np


def give_back(pixels: np.ndarray) -> None:
    """Let go of the pages of a file that were read or written through a memory map: they would count as the process's
    memory until the system runs short. Nothing is lost; what is needed again comes back from the system's cache.
    """
    base: Any = pixels
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)
