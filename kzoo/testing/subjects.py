"""What is checked: a method or a backbone, with what is costly to make (traced steps, another process) made once."""

import gc
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from kzoo.data.source import Source
from kzoo.errors import ConformanceError, TrainingError
from kzoo.layers import dropout_keys, every_layer
from kzoo.method import Batch, Logs, Method
from kzoo.plugins import registry, targets
from kzoo.runs import checkpoint
from kzoo.specs import BackboneSpec, MethodSpec
from kzoo.testing.fresh import FreshFailure, FreshProcess, prepare
from kzoo.testing.replicas import Trace, train_on_batches
from kzoo.testing.setups import BATCH, BackboneSetup, MethodSetup
from kzoo.testing.work import RESUMED, STEPS, Job, build_reference, run_reference

Result = TypeVar("Result")

FIXED_STEPS = 20  # on one batch
_FALL = 0.01  # of the loss in these steps, at least, as a share
_RATES = (0.05, 0.005, 0.0005)  # learning rates that are tried for it, in turn


class once(Generic[Result]):
    """A property that is worked out once. If that fails it fails the same way again, without the work."""

    def __init__(self, work: Callable[[Any], Result]):
        self.work, self.__doc__ = work, work.__doc__

    def __get__(self, subject: "Subject", owner: type) -> Result:
        results = subject.results
        if self.work not in results:
            try:
                results[self.work] = self.work(subject)
            except Exception as error:
                results[self.work] = error
        if isinstance(results[self.work], Exception):
            raise results[self.work]
        return results[self.work]


def made(*results: Any) -> None:
    """Nothing more: a result of `once` is made when it is named, and this is where it must be there."""


class Subject:
    """What checks of either kind share: a name, a folder to write to, a process to ask."""

    kind: str
    setup: MethodSetup | BackboneSetup
    fresh: FreshProcess

    def __init__(self) -> None:
        self.results: dict[Callable, Any] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="kzoo-check-")
        self.folder = Path(self._folder.name)

    @property
    def spec(self) -> MethodSpec | BackboneSpec:
        return self.setup.spec

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def expected_failures(self) -> Mapping[str, str]:
        return self.spec.expected_failures

    def fault(self, problem: str, remedy: str) -> ConformanceError:
        """The error to raise: one line."""
        return ConformanceError(f"{self.name}: {problem}; {remedy}")

    def ask(self, part: str, remedy: str) -> Any:
        """What came of a part of the fresh process' work. Raises ConformanceError where it failed."""
        try:
            return self.fresh.answer(part)
        except FreshFailure as failure:
            raise self.fault(str(failure), remedy) from None

    def close(self) -> None:
        """Delete what the checks wrote, and let go of the models."""
        for result in self.results.values():
            if isinstance(result, FreshProcess):
                result.stop()
        self.results.clear()
        self._folder.cleanup()
        gc.collect()


@dataclass(frozen=True)
class EagerSteps:
    """A float32 method after steps outside a graph, and what its optimizers were given.

    batches: what the pretext made for the first steps of training; one step was made on each of the first three.
    applied: by the id of a variable that an optimizer was given, the largest gradient of any step; None where it never
    got one. logs: of each step.
    """

    method: Method
    batches: list[Batch]
    applied: dict[int, float | None]
    logs: list[Logs]


@dataclass
class Reference:
    """A float64 method whose step is traced once, and what it did from its first state on."""

    method: Method
    initial: list[np.ndarray]
    trace: Trace

    @property
    def state(self) -> list[Any]:
        return checkpoint.state(self.method)

    def reset(self) -> None:
        """Go back to before the first step."""
        for variable, value in zip(self.state, self.initial, strict=True):
            variable.assign(value)

    def set_rate(self, rate: float) -> None:
        for optimizer in self.method.optimizers.values():
            optimizer.learning_rate = rate


@dataclass(frozen=True)
class Descent:
    """How the losses went on one fixed batch. rate: the learning rate with which they fell, else the smallest.

    figures: of each optimizer group, while all else was held: figure -> its value at each step.
    """

    rate: float
    figures: dict[str, dict[str, np.ndarray]]


def falls(values: np.ndarray) -> bool:
    """Whether a loss ended clearly below its start."""
    return bool(np.mean(values[-3:]) < values[0] - _FALL * max(abs(values[0]), 0.1))


class MethodSubject(Subject):
    """A method to check.

    Args:
        method: a registered name, or a record that no plugin yields.
        backbone: the registered name of the backbone to check it with; by default the record's `check_backbone`, else
            kzoo's tiny convnet.
        options: on top of the record's `check_options`.
        replicas: the counts of replicas that must train as one does.

    Raises:
        PluginError: no such method.
    """

    kind = "method"
    setup: MethodSetup

    def __init__(
        self,
        method: str | MethodSpec,
        *,
        backbone: str | None = None,
        options: Mapping[str, Any] | None = None,
        replicas: Sequence[int] = (2,),
    ):
        super().__init__()
        spec = registry.find_method(method) if isinstance(method, str) else method
        self.setup = MethodSetup(spec, backbone or spec.check_backbone, {**spec.check_options, **(options or {})})
        self.replicas = tuple(replicas)

    @once
    def options(self) -> Any:
        return targets.validate_options(self.setup.spec, self.setup.options)

    @once
    def source(self) -> Source:
        return self.setup.source()

    @once
    def inputs(self) -> np.ndarray:
        """Four examples that the method can be called on."""
        return self.setup.inputs(4)

    @once
    def eager(self) -> EagerSteps:
        prepare()  # the server imports TensorFlow while these steps are made
        keras.utils.set_random_seed(0)
        method = self.setup.build()
        method.compile(keras.optimizers.SGD(0.01), total_steps=STEPS)
        method.begin_epoch(0)
        batches = list(method.stream(self.source, batch_size=BATCH, seed=0).take(STEPS))
        with recorded_gradients() as applied:
            logs = [method.train_step(batch) for batch in batches[:3]]
        return EagerSteps(method, batches, applied, logs)

    @once
    def reference(self) -> Reference:
        method = build_reference(self.setup)
        initial = [np.array(variable) for variable in checkpoint.state(method)]
        save = _SaveAt(RESUMED, self.folder)
        return Reference(method, initial, run_reference(method, self.eager.batches, callbacks=[save]))

    @once
    def descent(self) -> Descent:
        largest = self.setup.spec.check_learning_rate
        for rate in [rate for rate in _RATES if rate <= largest] or [largest]:
            figures = {group: self._descend(group, rate) for group in self.reference.method.optimizer_groups()}
            if all(any(falls(values) for values in found.values()) for found in figures.values()):
                break
        return Descent(rate, figures)

    def _descend(self, group: str, rate: float) -> dict[str, np.ndarray]:
        """Train one group on one batch from the first state, all other variables held."""
        reference = self.reference
        method = reference.method
        reference.reset()
        reference.set_rate(rate)
        groups = method.optimizer_groups()
        trained = {id(variable) for variable in groups[group].variables}
        held = [variable for variable in method.variables if id(variable) not in trained]
        try:
            logs = train_on_batches(method, self.eager.batches[:1], FIXED_STEPS, callbacks=[_Hold(held)])
        except TrainingError:
            return {"loss": np.array([0.0, np.inf])}
        figures = ["loss"] if len(groups) == 1 else [name for name in logs[0] if "loss" in name]
        return {name: np.array([step[name] for step in logs]) for name in figures}

    @once
    def fresh(self) -> FreshProcess:
        """The other process, at work: reloads, resumes, trains on replicas."""
        self.eager.method.save(self.folder / "model.keras")
        made(self.reference)  # leaves the checkpoints
        batches = [{name: np.asarray(value) for name, value in batch.items()} for batch in self.eager.batches]
        return FreshProcess(self.folder, Job(self.setup, self.inputs, batches, self.replicas))


class BackboneSubject(Subject):
    """A backbone to check.

    Args:
        backbone: a registered name, or a record that no plugin yields. options: on top of the record's `check_options`.

    Raises:
        PluginError: no such backbone.
    """

    kind = "backbone"
    setup: BackboneSetup

    def __init__(self, backbone: str | BackboneSpec, *, options: Mapping[str, Any] | None = None):
        super().__init__()
        spec = registry.find_backbone(backbone) if isinstance(backbone, str) else backbone
        self.setup = BackboneSetup(spec, {**spec.check_options, **(options or {})})

    @property
    def size(self) -> int:
        """Of the examples that most checks use."""
        return max(self.setup.examples.size, self.setup.spec.min_size)

    @once
    def inputs(self) -> np.ndarray:
        return self.setup.inputs(8, self.size, self.setup.examples.depth)

    @once
    def model(self) -> keras.Model:
        prepare()
        keras.utils.set_random_seed(0)
        model = self.setup.build(self.size, self.setup.examples.depth)
        if isinstance(model, keras.Model) and model.input_shape == (None, *self.inputs.shape[1:]):
            settle(model, self.inputs)
        return model

    @once
    def saved(self) -> dict[str, np.ndarray]:
        """What the model returned when it was saved."""
        self.model.save(self.folder / "model.keras")
        self.model.save_weights(self.folder / "model.weights.h5")
        return {name: np.asarray(value) for name, value in self.model(self.inputs, training=False).items()}

    @once
    def fresh(self) -> FreshProcess:
        """The other process, at work: reloads."""
        made(self.saved)
        return FreshProcess(self.folder, Job(self.setup, self.inputs))


@contextmanager
def recorded_gradients() -> Iterator[dict[int, float | None]]:
    """Watch what optimizers are given outside a graph; see `EagerSteps.applied`."""
    applied: dict[int, float | None] = {}
    given = keras.optimizers.Optimizer.apply

    def apply(optimizer: Any, gradients: Any, variables: Any = None) -> Any:
        gradients = list(gradients)
        for gradient, variable in zip(gradients, variables or optimizer.trainable_variables, strict=True):
            known = applied.setdefault(id(variable), None)
            if gradient is not None:
                size = float(tf.reduce_max(tf.abs(tf.convert_to_tensor(gradient))))
                applied[id(variable)] = max(known or 0.0, math.inf if math.isnan(size) else size)
        return given(optimizer, gradients, variables)

    with mock.patch.object(keras.optimizers.Optimizer, "apply", apply):
        yield applied


@contextmanager
def kept(variables: Sequence[keras.Variable]) -> Iterator[list[np.ndarray]]:
    """Afterwards variables have the values again that they had before, which it gives."""
    before = [np.array(variable) for variable in variables]
    try:
        yield before
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def settle(model: keras.Model, inputs: np.ndarray) -> None:
    """Take batch normalisation most of the way to the statistics of the inputs, as training would.

    With those it starts from, activations grow with every block of a deep network, and rounding errors with them. With
    those of a few inputs alone, what hardly differs among these would blow up all others.
    """
    norms = [layer for layer in every_layer(model) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.1
    outputs_in_training(model, inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def outputs_in_training(model: keras.Model, inputs: np.ndarray, first_key: int = 0) -> dict[str, tf.Tensor]:
    """What a backbone returns in training; `kzoo.layers.Dropout` leaves out the same every time, for the same keys."""
    with dropout_keys(tf.range(first_key, first_key + len(inputs), dtype=tf.int64)):
        return model(inputs, training=True)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Layers that are made within compute in this policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class _SaveAt(keras.callbacks.Callback):
    """Writes a checkpoint after each of some steps, in a folder of its own."""

    def __init__(self, steps: Sequence[int], folder: Path):
        super().__init__()
        self.steps, self.folder = steps, folder

    def on_train_begin(self, logs: Any = None) -> None:
        self.step = -1
        self.on_train_batch_end(0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        if self.step in self.steps:
            folder = self.folder / f"after_{self.step}"
            checkpoint.save(folder, self.step, checkpoint.state(self.model), recipe_hash="check")


class _Hold(keras.callbacks.Callback):
    """Puts variables back to what they were, after each step."""

    def __init__(self, variables: list[keras.Variable]):
        super().__init__()
        self.kept = [(variable, np.array(variable)) for variable in variables]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        for variable, value in self.kept:
            variable.assign(value)
