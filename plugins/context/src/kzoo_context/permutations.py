"""The orders of a jigsaw puzzle: permutations that differ as much as possible."""

import functools
import itertools

import numpy as np


@functools.cache
def permutation_set(tiles: int, count: int) -> np.ndarray:
    """So many permutations of the numbers 0 .. tiles - 1, far apart in Hamming distance: int32 `[count, tiles]`.

    Begins with the identity and adds the permutation whose least distance to those chosen is largest, among equals the
    one with the largest sum of distances, among equals the first in lexicographic order. So a smaller set is the
    beginning of a larger one, and the set needs no file: it is the same everywhere.

    Noroozi and Favaro 2016 (section 4.2, algorithm 1) maximise the sum alone, which lets in near duplicates: among the
    first 100 of 9 tiles some differ in 2 or 3 places, here all in 6 or more. The array must not be written to.
    """
    candidates = np.array(list(itertools.permutations(range(tiles))), np.int8)
    columns = np.ascontiguousarray(candidates.T)
    least = np.full(len(candidates), tiles, np.int32)
    total = np.zeros(len(candidates), np.int32)
    chosen = [0]
    while len(chosen) < count:
        distance = np.zeros(len(candidates), np.int8)
        for column in columns:
            distance += column != column[chosen[-1]]
        np.minimum(least, distance, out=least)
        total += distance
        chosen.append(int(np.argmax(least * np.int64(tiles * count) + total)))
    found = candidates[chosen].astype(np.int32)
    found.setflags(write=False)
    return found
