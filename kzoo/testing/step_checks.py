"""What one step of a method must be: its figures, what it tells the backbone, what it remembers of a batch in parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from kzoo import state
from kzoo.errors import KzooError, StrategyError, TrainingError
from kzoo.layers import every_layer
from kzoo.method import Batch, Method
from kzoo.testing.subjects import MethodSubject, kept, made
from kzoo.testing.work import STEPS


def check_step(subject: MethodSubject) -> None:
    """A step returns figures that are one number each, the backbone is told whether it trains, and what a step keeps
    is in weights.
    """
    try:
        made(subject.eager)
    except TrainingError as error:
        raise subject.fault(*str(error).split("; ", 1)) from None  # what is wrong, what to do
    method, batch = subject.eager.method, subject.eager.batches[0]
    if own := [name for name, value in vars(method).items() if isinstance(value, tf.Variable)]:
        raise subject.fault(
            f"self.{own[0]} is a tf.Variable, which no checkpoint holds",
            "make it a weight of a layer (add_weight), or use what kzoo.state has",
        )
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


_TIMES = 4


def check_mean(subject: MethodSubject) -> None:
    """The loss is a mean over examples: of each example four times it is not four times what it is of each once.

    What compares the examples of a batch finds four times as many to compare with, and grows by a logarithm of that.
    """
    method, batch = subject.eager.method, subject.eager.batches[0]
    try:
        once = _loss(method, batch)
        several = _loss(method, {name: tf.concat([value] * _TIMES, axis=0) for name, value in batch.items()})
    except (KzooError, tf.errors.InvalidArgumentError):  # it takes no batch of this size
        return
    if abs(once) > 1e-6 and several / once > 0.97 * _TIMES:
        raise subject.fault(
            f"of each example {_TIMES} times the loss is {several / once:.3g} times as large: it is a sum, not a mean",
            "return the mean over the examples given, tf.reduce_mean: replicas and parts of a batch are averaged",
        )


def _loss(method: Method, batch: Batch) -> float:
    """Of a step that leaves no trace: in inference mode where the method has a loss there."""
    with kept(method.variables):
        logs = method.test_step(batch) if method.has_held_out_loss else {}
        return float(logs["loss"] if "loss" in logs else method.train_step(batch)["loss"])


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
