"""What one step of a method must be: its figures, what it tells the backbone, what it remembers of a batch in parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import keras
import numpy as np

from kzoo import state
from kzoo.errors import StrategyError, TrainingError
from kzoo.layers import every_layer
from kzoo.testing.subjects import MethodSubject, kept, made
from kzoo.testing.work import STEPS


def check_step(subject: MethodSubject) -> None:
    """A step returns figures that are one number each, and the backbone is told whether it trains."""
    try:
        made(subject.eager)
    except TrainingError as error:
        raise subject.fault(*str(error).split("; ", 1)) from None  # what is wrong, what to do
    method, batch = subject.eager.method, subject.eager.batches[0]
    with kept(method.variables), _told(method.backbone) as told:
        method.train_step(batch)
    if told and True not in told:
        raise subject.fault("in a training step the backbone is not told that it trains", _PASS_ON)
    if method.has_held_out_loss:
        with kept(method.variables), _told(method.backbone) as told:
            method.test_step(batch)
        if True in told:
            raise subject.fault("asked about held-out examples, the backbone is told that it trains", _PASS_ON)


_PASS_ON = "pass `training` on to embed in forward"


def check_accumulate(subject: MethodSubject) -> None:
    """Of a batch that is cut in two parts, queues and memory banks are given what they are given of the whole."""
    given: list[dict[str, np.ndarray]] = []
    for parts in (1, 2):
        keras.utils.set_random_seed(0)
        method = subject.setup.build()
        memories = [layer for layer in every_layer(method) if isinstance(layer, state.Queue | state.MemoryBank)]
        if not memories:
            return
        try:
            method.compile(keras.optimizers.SGD(0.01), total_steps=STEPS, accumulate=parts)
            method.begin_epoch(0)
            before = [np.array(variable) for layer in memories for variable in layer.variables]
            method.train_step(subject.eager.batches[0])
        except StrategyError:  # it cuts its batch in parts of its own
            return
        variables = [variable for layer in memories for variable in layer.variables]
        rows = [_rows(was != np.asarray(now)) for was, now in zip(before, variables, strict=True)]
        given.append(dict(zip([variable.path for variable in variables], rows, strict=True)))
    for path, whole in given[0].items():
        parted = given[1][path]
        if not np.array_equal(whole, parted):
            raise subject.fault(
                f"with accumulate: 2, {np.sum(parted)} rows of {path} change; of the whole batch {np.sum(whole)}",
                "remember what `outputs` of minimise's logs hold: they are those of all parts",
            )


def _rows(changed: np.ndarray) -> np.ndarray:
    return np.asarray(changed.any(axis=tuple(range(1, changed.ndim))))


@contextmanager
def _told(backbone: keras.Model) -> Iterator[list[Any]]:
    """What `training` the backbone is called with, each time."""
    told: list[Any] = []
    call = keras.layers.Layer.__call__

    def watched(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer is backbone:
            told.append(kwargs.get("training"))
        return call(layer, *args, **kwargs)

    with mock.patch.object(keras.layers.Layer, "__call__", watched):
        yield told
