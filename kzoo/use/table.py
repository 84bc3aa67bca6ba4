"""Embeddings in a file: npz, csv or parquet, and beside it `<file>.json`, which says what they were made from.

Without TensorFlow.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.errors import EmbeddingsError, RecipeError
from kzoo.system.files import read_json, replacing, write_json

_LEAD = ("name", "split", "label")  # the columns before the vector


@dataclass(frozen=True)
class Embeddings:
    """n embeddings.

    name: of each example its file, or its id. split, label: of each, "" where it has no class. vectors: float32 [n, d].
    facts: what they were made from, plain JSON.
    """

    name: list[str]
    split: list[str]
    label: list[str]
    vectors: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.name)


def check_format(path: Path) -> None:
    """Raise RecipeError where embeddings cannot be written to a file of this name."""
    if path.suffix not in _WRITE:
        raise RecipeError(f"--out {path}: the name must end in {', '.join(_WRITE)}")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise RecipeError(f'--out {path}: parquet needs pyarrow; pip install "kzoo[parquet]", or write .npz or .csv')
    if path.is_dir():
        raise RecipeError(f"--out {path}: is a folder; name a file")


def write(path: Path, found: Embeddings) -> None:
    """Write the file and what it was made from, each whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        _WRITE[path.suffix](scratch, found)
    write_json(facts_path(path), {**found.facts, "examples": len(found), "width": found.vectors.shape[1]})


def read(path: Path) -> Embeddings:
    """What `write` wrote. Raises EmbeddingsError where the file is missing or holds anything else."""
    if path.suffix not in _READ:
        raise EmbeddingsError(f"{path}: the name must end in {', '.join(_READ)}; make it with `kzoo embed`")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise EmbeddingsError(f'{path}: parquet needs pyarrow; pip install "kzoo[parquet]"')
    try:
        name, split, label, vectors = _READ[path.suffix](path)
    except FileNotFoundError:
        raise EmbeddingsError(f"{path}: no such file; make it with `kzoo embed`") from None
    except Exception as error:  # a damaged zip, another table, another library's words
        raise EmbeddingsError(
            f"{path}: holds no embeddings that kzoo wrote ({type(error).__name__}); make it again with `kzoo embed`"
        ) from error
    if vectors.ndim != 2 or not len(name) == len(split) == len(label) == len(vectors):
        raise EmbeddingsError(f"{path}: its columns do not fit each other; make it again with `kzoo embed`")
    return Embeddings(list(map(str, name)), list(map(str, split)), list(map(str, label)), vectors, read_facts(path))


def facts_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def read_facts(path: Path) -> dict[str, Any]:
    return read_json(facts_path(path))


def _write_npz(path: Path, found: Embeddings) -> None:
    columns = {key: np.array(getattr(found, key), dtype=str) for key in _LEAD}
    with path.open("wb") as file:
        np.savez(file, **columns, embedding=found.vectors)  # type: ignore[arg-type]  # strings are arrays too


def _read_npz(path: Path) -> tuple[Any, ...]:
    with np.load(path, allow_pickle=False) as file:
        return (*(file[key] for key in _LEAD), file["embedding"])


def _write_csv(path: Path, found: Embeddings) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_LEAD, *(f"e{number}" for number in range(found.vectors.shape[1]))])
        for name, split, label, vector in zip(found.name, found.split, found.label, found.vectors, strict=True):
            writer.writerow([name, split, label, *map(str, vector)])  # str: the shortest that reads back equal


def _read_csv(path: Path) -> tuple[Any, ...]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    if tuple(header[:3]) != _LEAD:
        raise ValueError(header)
    lead = [[row[place] for row in rows] for place in range(3)]
    return (*lead, np.array([row[3:] for row in rows], np.float32).reshape(len(rows), len(header) - 3))


def _write_parquet(path: Path, found: Embeddings) -> None:
    import pyarrow
    from pyarrow import parquet

    width = found.vectors.shape[1]
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(found.vectors.ravel()), width)
    columns = {key: pyarrow.array(getattr(found, key), pyarrow.string()) for key in _LEAD}
    parquet.write_table(pyarrow.table({**columns, "embedding": vectors}), path)


def _read_parquet(path: Path) -> tuple[Any, ...]:
    from pyarrow import parquet

    table = parquet.read_table(path)
    vectors = table["embedding"].combine_chunks()
    flat = np.asarray(vectors.flatten(), np.float32)
    return (*(table[key].to_pylist() for key in _LEAD), flat.reshape(len(table), vectors.type.list_size))


_WRITE: dict[str, Callable[[Path, Embeddings], None]] = {
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
_READ: dict[str, Callable[[Path], tuple[Any, ...]]] = {".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
