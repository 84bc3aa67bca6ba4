"""Checkpoints: every variable of a training run, in a folder with checksums; the newest that verifies is loaded.

`checkpoints/step-00000120/` holds `state.h5` (weights, teacher, queue, counters, optimizer slots) and `manifest.json`
(step, recipe hash, SHA-256 of the state). It appears by one rename, so a killed run leaves a whole one or none.
"""

import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kzoo.errors import CheckpointError
from kzoo.files import new_folder

_STATE, _MANIFEST = "state.h5", "manifest.json"


def save(folder: Path, step: int, variables: list[Any], *, recipe_hash: str, keep: int) -> Path:
    """Write the variables as `folder/step-<step>/` and delete all but the newest `keep` checkpoints."""
    target = folder / f"step-{step:08d}"
    if target.exists():
        shutil.rmtree(target)  # only a damaged one is ever written again
    with new_folder(target) as scratch:
        with h5py.File(scratch / _STATE, "w") as file:
            for number, variable in enumerate(variables):
                stored = file.create_dataset(f"{number:05d}", data=np.asarray(variable.numpy()))
                stored.attrs["path"] = variable.path
        manifest = {"step": step, "recipe_hash": recipe_hash, "sha256": _sha256(scratch / _STATE)}
        (scratch / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    for old in _checkpoints(folder)[keep:]:
        shutil.rmtree(old)
    return target


def restore(folder: Path, variables: list[Any], *, recipe_hash: str) -> int:
    """Load the newest checkpoint that verifies into the variables; returns its step.

    Raises CheckpointError where there is none, or it belongs to another recipe.
    """
    for path in _checkpoints(folder):
        try:
            manifest = json.loads((path / _MANIFEST).read_text())
            intact = manifest["sha256"] == _sha256(path / _STATE)
        except (OSError, ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            warnings.warn(f"{path}: damaged checkpoint passed over", stacklevel=2)
            continue
        if manifest["recipe_hash"] != recipe_hash:
            raise CheckpointError(
                f"{path}: made with another recipe; resume with the run's own recipe.yaml, or start anew"
            )
        _load(path / _STATE, variables)
        return int(manifest["step"])
    raise CheckpointError(f"{folder}: no intact checkpoint to resume from; start without --resume in another folder")


def _load(path: Path, variables: list[Any]) -> None:
    with h5py.File(path, "r") as file:
        if len(file) != len(variables):
            raise CheckpointError(f"{path}: holds {len(file)} variables, the method has {len(variables)}")
        for number, variable in enumerate(variables):
            stored = file[f"{number:05d}"]
            if tuple(stored.shape) != tuple(variable.shape):  # names count up within a process, shapes do not
                raise CheckpointError(f"{path}: {stored.attrs['path']} {stored.shape} where {variable.path} is due")
            variable.assign(stored[()])


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
