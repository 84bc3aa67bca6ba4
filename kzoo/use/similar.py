"""`kzoo similar`: near-duplicates, and the nearest neighbours of a file, among embeddings. Without TensorFlow.

Similar is the cosine of the embeddings after their mean is taken off: without that, all embeddings of a network whose
last layer is never negative look alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from kzoo.errors import EmbeddingsError, RecipeError
from kzoo.evaluate.collapse import unit_norm
from kzoo.system import disk
from kzoo.use import index
from kzoo.use.table import Embeddings

_PAIRS = 2_000_000  # more say nothing, and fill the memory
_SHOWN = 40  # rows of a contact sheet
_ACROSS = 12  # pictures in one
_SIDE = 96


@dataclass(frozen=True)
class Similar:
    """A file, and those that are similar to it, the most similar first. others: (name, label, similarity)."""

    name: str
    label: str
    others: list[tuple[str, str, float]]


def near_duplicates(found: Embeddings, above: float) -> list[Similar]:
    """Groups of examples that are chained by similarities of `above` or more, the most alike first; each with its first
    example by name, and how similar the others are to that.

    Of more than `index.LARGE`, nearly all of them, where usearch is installed. Raises EmbeddingsError where there are
    too many pairs.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    unit, pairs, count = _unit(found), [], 0
    for some in index.alike(unit, above):
        pairs.append(some)
        count += some.shape[1]
        if count > _PAIRS:
            raise EmbeddingsError(f"--above {above:g}: more than {_PAIRS:,} pairs are so similar; raise it")
    one, other = np.concatenate(pairs, axis=1)
    linked = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(unit), len(unit)))
    _, group = connected_components(linked, directed=False)
    members = np.unique(np.concatenate([one, other]))
    groups = [members[group[members] == number] for number in np.unique(group[members])]
    answers = []
    for rows in groups:
        first, *rest = sorted(rows, key=lambda row: found.name[row])
        answers.append(_similar(found, unit, first, np.array(rest)))
    return sorted(answers, key=lambda answer: -answer.others[0][2])


def nearest(found: Embeddings, names: Sequence[str], count: int) -> list[Similar]:
    """The nearest neighbours of some examples. Raises EmbeddingsError where there is no such name."""
    places = [_place(found, name) for name in names]
    unit, answers = _unit(found), []
    for start, similarity in _blocks(unit, np.array(places)):
        for row, values in zip(places[start:], similarity, strict=False):
            values[row] = -np.inf
            rows = np.argsort(-values, kind="stable")[: min(count, len(unit) - 1)]
            answers.append(_similar(found, unit, row, rows))
    return answers


def _place(found: Embeddings, name: str) -> int:
    """The example of a name; its end is enough where only one ends so."""
    places = [place for place, known in enumerate(found.name) if known == name]
    places = places or [place for place, known in enumerate(found.name) if known.endswith(f"/{name}")]
    if len(places) == 1:
        return places[0]
    if places:
        raise EmbeddingsError(f"--of {name}: {len(places)} examples are called so; embed one split, or say more of it")
    raise EmbeddingsError(f"--of {name}: no such file among the {len(found):,}; {found.name[0]} is one")


def _unit(found: Embeddings) -> np.ndarray:
    if len(found) < 2:
        raise EmbeddingsError("fewer than two embeddings: there is nothing to compare")
    centred = found.vectors.astype(np.float32) - found.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    return unit_norm(centred)


def _blocks(unit: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first place in rows, similarities of some of them to all)."""
    for start in range(0, len(rows), index.BLOCK):
        yield start, unit[rows[start : start + index.BLOCK]] @ unit.T


def _similar(found: Embeddings, unit: np.ndarray, row: int, others: np.ndarray) -> Similar:
    values = unit[others] @ unit[row]
    order = np.argsort(-values, kind="stable")
    listed = [(found.name[others[place]], found.label[others[place]], float(values[place])) for place in order]
    return Similar(found.name[row], found.label[row], listed)


def as_json(answers: Sequence[Similar]) -> list[dict[str, Any]]:
    keys = ("name", "label", "similarity")
    return [{**asdict(one), "others": [dict(zip(keys, other, strict=True)) for other in one.others]} for one in answers]


def table(answers: Sequence[Similar], heading: str) -> Table:
    """For the terminal: a row for each pair."""
    shown = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("similarity", justify="right")
    shown.add_column("file", overflow="fold")
    shown.add_column("is similar to", overflow="fold")
    for one in answers:
        for name, _, value in one.others:
            shown.add_row(f"{value:.4f}", escape(name), escape(one.name))
    return shown


def draw(path: Path, answers: Sequence[Similar], found: Embeddings, heading: str) -> None:
    """A contact sheet as a PNG file: a row for each answer. A file that cannot be read is an empty place.

    Raises RecipeError where the name is another, or the embeddings are of no folder; EmbeddingsError where the sheet
    cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise RecipeError(f"--sheet {path}: the name must end in .png")
    prefix, _, folder = str(found.facts.get("data", "")).partition(":")
    if prefix != "folder":
        raise RecipeError(f"--sheet {path}: only embeddings of a folder have pictures; leave it out")
    from kzoo.evaluate import figures  # brings Matplotlib and scikit-learn

    rows = [
        [(_picture(Path(folder, one.name)), one.name)]
        + [(_picture(Path(folder, name)), f"{value:.3f}\n{name}") for name, _, value in one.others[: _ACROSS - 1]]
        for one in answers[:_SHOWN]
    ]
    more = "the number is how similar a picture is to the first of its row"
    more += f"; the first {_SHOWN} of {len(answers):,} rows" if len(answers) > _SHOWN else ""
    with disk.writing(path, EmbeddingsError):
        figures.contact_sheet(path, rows, heading, more)


def _picture(path: Path) -> np.ndarray | None:
    from kzoo.folder.images import read_image

    try:
        return read_image(path, _SIDE)
    except Exception:  # gone, or changed since; Pillow raises nearly anything
        return None
