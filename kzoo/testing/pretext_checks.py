"""What every pretext must be: pure, and drawing for each example from its key."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kzoo.data.chosen import chosen_of
from kzoo.method import Batch
from kzoo.plugins import targets
from kzoo.random import example_keys
from kzoo.testing import examples
from kzoo.testing.subjects import MethodSubject

_KEYS = "draw with kzoo.random from the keys in `seed`, one for each example"


def check_pretext(subject: MethodSubject) -> None:
    """The pretext is pure: the same keys give the same, other keys something else, whatever else is in the batch."""
    count, half = 8, 4
    raw = examples.raw_batch(subject.source, count)
    keys = example_keys(0, 0, tf.range(count, dtype=tf.int64))
    once, twice = _pretext(subject, raw, keys), _pretext(subject, raw, keys)
    for name, value in once.items():
        if not value.shape.rank or value.shape[0] == 0 or value.shape[0] % count:
            raise subject.fault(
                f"pretext output '{name}' has shape {list(value.shape)} for {count} examples",
                "its first axis must be the batch or a multiple of it",
            )
        if value.shape.rank == 4 and value.shape[-1] in (1, 3) and value.dtype != tf.float32:
            raise subject.fault(
                f"pretext output '{name}' is a picture of type {value.dtype.name}",
                "views are float32 in [0, 1], as kzoo.augment makes them",
            )
        if value.dtype.is_floating and not np.isfinite(value.numpy()).all():
            raise subject.fault(f"pretext output '{name}' is not finite", "look for divisions by zero")
        if not _same(value, twice[name]):
            raise subject.fault(f"pretext output '{name}' differs between two calls with the same keys", _KEYS)

    others = _pretext(subject, raw, example_keys(1, 0, tf.range(count, dtype=tf.int64)))
    drawn = [name for name, value in once.items() if not _same(value, others[name])]
    repeated = {name: tf.repeat(value[:1], count, axis=0) for name, value in raw.items()}
    alike = _pretext(subject, repeated, keys)
    for name in drawn:
        rows = np.split(alike[name].numpy(), count)
        if all(np.array_equal(rows[0], row) for row in rows[1:]):
            raise subject.fault(f"pretext output '{name}' draws the same for every example of a batch", _KEYS)

    part = _pretext(subject, {name: value[half:] for name, value in raw.items()}, keys[half:])
    for name, value in once.items():
        if not _same(value[len(value) // count * half :], part[name]):
            raise subject.fault(
                f"pretext output '{name}' of an example depends on the rest of the batch, or stands in another place",
                f"{_KEYS}; put what belongs to example i before what belongs to i + 1",
            )
    for name, other in _views(drawn):
        if once[name].shape == once[other].shape and _same(once[name], once[other]):
            raise subject.fault(
                f"views '{name}' and '{other}' are equal", "fold another name into `seed` for each view"
            )


def _pretext(subject: MethodSubject, raw: Batch, keys: tf.Tensor) -> Batch:
    method, asked = targets.resolve(subject.setup.spec), {}

    def choose(known: Batch, keys: tf.Tensor) -> Batch:
        asked.update(_tensors(subject, "choose", method.choose(known, keys, subject.options)))
        return asked

    batch = chosen_of(dict(raw), keys, choose, targets.modality(subject.setup.spec.modality))
    return {**asked, **_tensors(subject, "pretext", method.pretext(batch, keys, subject.options))}


def _tensors(subject: MethodSubject, of: str, made: Any) -> Batch:
    if not isinstance(made, Mapping) or not all(tf.is_tensor(value) for value in made.values()):
        raise subject.fault(f"{of} returns something else than a dict of tensors", "return {name: tensor}")
    return dict(made)


def _same(one: tf.Tensor, other: tf.Tensor) -> bool:
    """Equal, for floats up to the rounding of vector instructions."""
    if one.shape != other.shape:
        return False
    if not one.dtype.is_floating:
        return bool(np.array_equal(one, other))
    return bool(np.allclose(one, other, rtol=1e-5, atol=1e-5))


def _views(names: list[str]) -> list[tuple[str, str]]:
    """Pairs of names that mean views of one example: "view_0" and "view_1", "query" and "key"."""
    numbered = [name for name in names if re.fullmatch(r".*\d", name)]
    pairs = [(a, b) for a in numbered for b in numbered if a < b and a.rstrip("0123456789") == b.rstrip("0123456789")]
    return pairs + [("query", "key")] * ({"query", "key"} <= set(names))
