"""The weights of a method that its encoder does not have, in a file: what its signatures read besides."""

from pathlib import Path
from typing import Any

import numpy as np

from kzoo.errors import EvaluationError
from kzoo.method import Method
from kzoo.system.files import replacing


def save_heads(path: Path, method: Method) -> None:
    """Write them in the method's order. Raises OSError."""
    arrays = {str(number): np.asarray(variable.numpy()) for number, variable in enumerate(_heads(method))}
    with replacing(path) as scratch, scratch.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_heads(path: Path, method: Method) -> None:
    """Assign what was saved. Raises EvaluationError, and assigns nothing, where number or shapes are others."""
    heads = _heads(method)
    with np.load(path, allow_pickle=False) as stored:
        arrays = [stored[str(number)] for number in range(len(stored.files))]
    if [array.shape for array in arrays] != [tuple(variable.shape) for variable in heads]:
        raise EvaluationError(
            f"{path}: does not fit the method that the recipe builds now; install the plugins that kzoo.json names"
        )
    for variable, array in zip(heads, arrays, strict=True):
        variable.assign(array)


def _heads(method: Method) -> list[Any]:
    held = {id(variable) for variable in method.encoder.variables}
    return [variable for variable in method.variables if id(variable) not in held]
