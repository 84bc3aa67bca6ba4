"""All pairs of embeddings that are alike: exactly, or, where they are many, by an approximate index (usearch).

Without TensorFlow.
"""

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np

LARGE = 50_000  # embeddings; above, comparing each with all takes minutes
BLOCK = 1024  # rows compared at once
_NEIGHBOURS = 32  # of each, that the index is asked for: larger groups are still chained by them
_CONNECTIVITY, _EFFORT = 24, 128  # of the graph; more finds more, and takes longer


def approximate(count: int) -> bool:
    """Whether so many embeddings are searched by the index."""
    return count > LARGE and available()


def available() -> bool:
    return find_spec("usearch") is not None


def alike(unit: np.ndarray, above: float) -> Iterator[np.ndarray]:
    """Rows [2, n] of all pairs whose similarity is at least `above`, block after block, each pair once, the lower row
    first. unit: float32 [N, d], of norm 1. Of many, nearly all pairs, if usearch is installed.
    """
    return _by_index(unit, above) if approximate(len(unit)) else _exact(unit, above)


def _exact(unit: np.ndarray, above: float) -> Iterator[np.ndarray]:
    for start in range(0, len(unit), BLOCK):
        rows, columns = np.nonzero(unit[start : start + BLOCK] @ unit.T >= above)
        later = columns > rows + start
        yield np.stack([rows[later] + start, columns[later]])


def _by_index(unit: np.ndarray, above: float) -> Iterator[np.ndarray]:
    from usearch.index import Index

    index = Index(ndim=unit.shape[1], metric="ip", dtype="f32", connectivity=_CONNECTIVITY, expansion_add=_EFFORT,
                  expansion_search=_EFFORT)  # fmt: skip
    index.add(np.arange(len(unit)), unit)
    found: list[np.ndarray] = []
    for start in range(0, len(unit), BLOCK):
        queries = unit[start : start + BLOCK]
        matches = index.search(queries, min(_NEIGHBOURS, len(unit)))
        rows = np.repeat(np.arange(start, start + len(queries)), matches.keys.shape[1])
        columns, near = matches.keys.ravel().astype(np.int64), 1 - matches.distances.ravel() >= above
        pairs = np.sort(np.stack([rows, columns])[:, near & (rows != columns)], axis=0)
        found.append(pairs)
    yield np.unique(np.concatenate(found, axis=1), axis=1)
