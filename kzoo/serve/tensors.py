"""JSON values as tensors and back. What does not fit a signature is refused, in words that say where."""

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from kzoo.serve.refusal import Refusal, shown

BYTES = "string"  # TensorFlow's name of the type
_BINARY = "_bytes"  # how TF Serving knows an output that is not text: by the end of its name


@dataclass(frozen=True)
class Tensor:
    """An input or output of a signature. dtype: TensorFlow's name. shape: None where any size is taken."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sides = ["N" if axis == 0 and side is None else str(side or "any") for axis, side in enumerate(self.shape)]
        return f"{self.dtype} [{', '.join(sides)}]"


def from_nested(value: Any, tensor: Tensor, where: str) -> np.ndarray:
    """Nested lists as an array of the tensor's type and shape.

    where: the place in the request, for messages. Raises Refusal (400).
    """
    shape: list[int] = []
    values = [value]
    for depth in range(len(tensor.shape)):
        if not all(isinstance(one, list) for one in values):
            alone = next(one for one in values if not isinstance(one, list))
            raise _expected(tensor, where, f"{shown(alone)}, lists {depth} deep")
        lengths = set(map(len, values))
        if len(lengths) > 1:
            raise _expected(tensor, where, f"lists of {min(lengths)} and of {max(lengths)}")
        shape.append(lengths.pop())
        values = list(chain.from_iterable(values))
        if not values:
            raise Refusal(400, f"{where}: an empty list")
    if any(isinstance(one, list) for one in values):
        raise _expected(tensor, where, f"lists more than {len(tensor.shape)} deep")
    _check_shape(tuple(shape), tensor, where)
    return _array(values, tensor, where).reshape(shape)


def from_flat(values: list[Any], shape: tuple[int, ...], tensor: Tensor, where: str) -> np.ndarray:
    """Values in row-major order as an array of this shape. Raises Refusal (400)."""
    _check_shape(shape, tensor, where)
    if len(values) != math.prod(shape):
        raise Refusal(400, f"{where}: {list(shape)} holds {math.prod(shape)} values. Received: {len(values)}")
    return _array(values, tensor, where).reshape(shape)


def as_json(array: np.ndarray, name: str) -> Any:
    """What orjson writes: the array itself, or, of strings, nested lists of text.

    Strings that are not UTF-8, and those of an output whose name ends in "_bytes", become `{"b64": ...}`.
    """
    if array.dtype != object:
        return np.ascontiguousarray(array)
    return _texts(array.tolist(), name.endswith(_BINARY))


def _texts(value: Any, binary: bool) -> Any:
    if isinstance(value, list):
        return [_texts(one, binary) for one in value]
    try:
        if not binary:
            return value.decode()
    except UnicodeDecodeError:
        pass
    return {"b64": base64.b64encode(value).decode()}


def _check_shape(shape: tuple[int, ...], tensor: Tensor, where: str) -> None:
    fits = len(shape) == len(tensor.shape) and all(
        right in (None, side) for side, right in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        raise _expected(tensor, where, str(list(shape)))


def _array(values: list[Any], tensor: Tensor, where: str) -> np.ndarray:
    """A flat array of values that are no lists."""
    if tensor.dtype == BYTES:
        array = np.empty(len(values), object)
        array[:] = [_bytes(value, where) for value in values]
        return array
    kind = np.dtype(tensor.dtype)
    types = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float)}[kind.kind]
    if not set(map(type, values)) <= set(types):  # true and false are no numbers here
        wrong = next(value for value in values if type(value) not in types)
        raise _expected(tensor, where, f"the value {shown(wrong)}")
    if kind.kind in "iu":
        lowest, highest = np.iinfo(kind).min, np.iinfo(kind).max
        if outside := [value for value in (min(values), max(values)) if not lowest <= value <= highest]:
            raise Refusal(400, f"{where}: {kind.name} is {lowest} to {highest}. Received: {outside[0]}")
    with np.errstate(over="ignore"):
        array = np.array(values, kind)
    if kind.kind == "f" and not np.isfinite(array).all():
        raise Refusal(400, f"{where}: a number too large for {kind.name}")
    return array


def _bytes(value: Any, where: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Mapping) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        return from_base64(value["b64"], where)
    raise Refusal(400, f'{where}: expected text or {{"b64": "..."}}. Received: {shown(value)}')


def from_base64(text: str, where: str) -> bytes:
    """Raises Refusal (400) for what is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, f"{where}: not base64: {shown(text)}") from None


def _expected(tensor: Tensor, where: str, received: str) -> Refusal:
    return Refusal(400, f"{where}: expected {tensor}. Received: {received}")
