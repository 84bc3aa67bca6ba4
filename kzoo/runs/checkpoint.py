"""Checkpoints: all that the next step depends on, in a folder with checksums; the newest that verifies is loaded.

`checkpoints/step-00000120/`
    state.npz      every variable: weights, teacher, queue, bank, counters, random states, optimizer slots
    manifest.json  the step, the recipe's hash, what it was made with, the callbacks' state, the variables' names
    SHA256SUMS     of both, as `sha256sum --check` reads it

Order and augmentation of the examples follow from the seed and the step alone, so the step is the position in the data.
A folder appears by one rename after it has reached the disk: a killed process leaves a whole checkpoint or none.
"""

import hashlib
import json
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo.errors import CheckpointError
from kzoo.system.files import new_folder, remove_folder

_STATE, _MANIFEST, _SUMS = "state.npz", "manifest.json", "SHA256SUMS"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that verified.

    step: optimizer steps made. recipe_hash: of the run's recipe. made_with: versions, plugins, number of examples.
    callbacks: their state, by name. variables: [path, shape, type] of each.
    """

    path: Path
    step: int
    recipe_hash: str
    made_with: dict[str, Any]
    callbacks: dict[str, Any]
    variables: list[list[Any]]

    def load(self, variables: list[Any], *, recipe_hash: str) -> None:
        """Assign what was saved.

        Raises CheckpointError, and assigns nothing, where the recipe is another, or number, shapes or types differ.
        """
        if self.recipe_hash != recipe_hash:
            raise CheckpointError(f"{self.path}: made with another recipe; resume with the run's own, or start anew")
        if len(self.variables) != len(variables):
            raise CheckpointError(
                f"{self.path}: holds {len(self.variables)} variables, the method has {len(variables)}; start anew"
            )
        # names count up within a process, so they may differ
        for (path, *saved), variable in zip(self.variables, variables, strict=True):
            if saved != _described(variable)[1:]:
                raise CheckpointError(
                    f"{self.path}: holds {path} {saved} where {_described(variable)} is due; start anew"
                )
        with np.load(self.path / _STATE, allow_pickle=False) as stored:
            for number, variable in enumerate(variables):
                # a view, because numpy reads types that it does not know, such as bfloat16, as mere bytes
                variable.assign(stored[_member(number)].view(_described(variable)[2]))


def state(method: Any) -> list[Any]:
    """Every variable that the next step of a compiled method depends on, each once, in a fixed order.

    Weights, moving statistics, teachers, queues, counters and random states are the method's; slots, iterations and
    loss scales its optimizers'.
    """
    held = [*method.variables, *(slot for optimizer in method.optimizers.values() for slot in optimizer.variables)]
    return list({id(variable): variable for variable in held}.values())


def save(
    folder: Path,
    step: int,
    variables: list[Any],
    *,
    recipe_hash: str,
    made_with: dict[str, Any] | None = None,
    callbacks: dict[str, Any] | None = None,
    keep: int = 1,
) -> Path:
    """Write `folder/step-<step>/`; then delete all but the newest `keep` checkpoints up to this step.

    made_with, callbacks: plain JSON values. Raises OSError where it cannot be written; then nothing is deleted either.
    """
    target = folder / f"step-{step:08d}"
    if target.exists() and _read(target) is None:
        remove_folder(target)
    if not target.exists():
        with new_folder(target) as scratch:
            _write_state(scratch / _STATE, variables)
            manifest = {
                "step": step,
                "recipe_hash": recipe_hash,
                "made_with": made_with or {},
                "callbacks": callbacks or {},
                "variables": [_described(variable) for variable in variables],
            }
            (scratch / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            (scratch / _SUMS).write_bytes(_sums(scratch))
    # a later one can only be damaged: it was passed over when this training resumed
    kept = [number for number in sorted(_checkpoints(folder), reverse=True) if number <= step][:keep]
    for number, path in _checkpoints(folder).items():
        if number not in kept:
            remove_folder(path)
    return target


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies, None where there are none at all.

    Warns of each damaged one that it passes over. Raises CheckpointError where all are damaged.
    """
    found = _checkpoints(folder)
    for number in sorted(found, reverse=True):
        checkpoint = _read(found[number])
        if checkpoint:
            return checkpoint
        warnings.warn(f"{found[number]}: damaged checkpoint passed over", stacklevel=2)
    if found:
        raise CheckpointError(f"{folder}: every checkpoint is damaged; restore one from a copy, or start anew")
    return None


def restore(folder: Path, variables: list[Any], *, recipe_hash: str) -> Checkpoint:
    """Load the newest checkpoint that verifies into the variables. Warns of damaged ones.

    Raises CheckpointError where there is none, it belongs to another recipe, or its variables are others.
    """
    found = newest(folder)
    if found is None:
        raise CheckpointError(f"{folder}: no checkpoint to resume from; start without --resume in another folder")
    found.load(variables, recipe_hash=recipe_hash)
    return found


def _read(path: Path) -> Checkpoint | None:
    """What the manifest says; None where any byte of the checkpoint is not the one that was written."""
    try:
        if (path / _SUMS).read_bytes() != _sums(path):
            return None
        return Checkpoint(path, **json.loads((path / _MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _sums(folder: Path) -> bytes:
    lines = []
    for name in (_MANIFEST, _STATE):
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines).encode()


def _write_state(path: Path, variables: list[Any]) -> None:
    # as numpy.savez does, but one variable in memory at a time, and without the date: equal states give equal files
    with zipfile.ZipFile(path, "w") as archive:
        for number, variable in enumerate(variables):
            with archive.open(zipfile.ZipInfo(f"{_member(number)}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(variable.numpy()), allow_pickle=False)


def _member(number: int) -> str:
    return f"{number:05d}"


def _described(variable: Any) -> list[Any]:
    return [variable.path, list(variable.shape), keras.backend.standardize_dtype(variable.dtype)]


def exist(folder: Path) -> bool:
    """Whether there are any, sound or not."""
    return bool(_checkpoints(folder))


def _checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints' folders by step."""
    return {int(path.name[5:]): path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name)}
