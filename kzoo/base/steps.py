"""One optimizer step: the gradient of the joint batch, in parts, scaled, clipped, given to each group's optimizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from kzoo import replicas, sums
from kzoo.errors import TrainingError
from kzoo.layers import dropout_keys

Batch = dict[str, tf.Tensor]
Logs = dict[str, tf.Tensor]


class StepLogs(dict[str, tf.Tensor]):
    """The figures of a step by name, "loss" among them. outputs: what `forward` gave for the whole batch.

    Raises TrainingError for a figure that is not one number.
    """

    outputs: Batch

    def __init__(self, *figures: Any, outputs: Batch | None = None, **more: Any):
        super().__init__(*figures, **more)
        self.outputs = outputs or {}
        for name, value in self.items():
            if tf.is_tensor(value) and value.shape.rank:
                raise TrainingError(
                    f"the step's figure '{name}' has shape {list(value.shape)}; let loss return one number for each, "
                    "the mean over the examples"
                )


@dataclass(frozen=True)
class Group:
    """Variables that one optimizer updates.

    lr_scale: factor on the learning rate of the recipe. frozen_until_epoch: before it they stay as they are.
    weight_decay: in place of the recipe's; none: the recipe's. constant_rate: the learning rate stays at the recipe's
    peak, whatever its schedule.
    """

    variables: list[keras.Variable]
    lr_scale: float = 1.0
    frozen_until_epoch: int = 0
    weight_decay: float | None = None
    constant_rate: bool = False


@dataclass(frozen=True)
class Update:
    """A group, its optimizer, and whether it is frozen in this step: a Python or tensor boolean."""

    group: Group
    optimizer: Any
    frozen: Any = False


@dataclass(frozen=True)
class Step:
    """How a step is made.

    loss: from a batch of this replica to its logs. updates: of the groups that it updates. accumulate: parts of the
    batch, one after the other. clip_norm, clip_tensor_norm: largest norm of the joint gradient, of each tensor's.
    """

    loss: Callable[[Batch], StepLogs]
    updates: Sequence[Update]
    accumulate: int = 1
    clip_norm: float | None = None
    clip_tensor_norm: float | None = None
    regularisation: Callable[[], list[tf.Tensor]] = field(default=list)

    def __call__(self, batch: Batch) -> StepLogs:
        """Update all groups by one gradient; the logs of this replica, means over the parts, and the outputs."""
        gradients, logs = self._accumulated(batch)
        self._apply(self._clipped(gradients))
        return logs

    @property
    def _variables(self) -> list[Any]:
        return [variable for update in self.updates for variable in update.group.variables]

    def _accumulated(self, batch: Batch) -> tuple[list[Any], StepLogs]:
        parts = _parts(batch, self.accumulate)
        gradients, logs = self._gradients(parts[0])
        outputs = [logs.outputs]
        for part in parts[1:]:
            # one after the other: the memory of one part, not of all
            with tf.control_dependencies([g for g in gradients if g is not None]):
                more, more_logs = self._gradients({key: tf.identity(value) for key, value in part.items()})
            gradients = [g if m is None else m if g is None else g + m for g, m in zip(gradients, more, strict=True)]
            logs = StepLogs({key: value + more_logs[key] for key, value in logs.items()})
            outputs.append(more_logs.outputs)
        if len(parts) > 1:
            gradients = [g if g is None else g / len(parts) for g in gradients]
            logs = StepLogs({key: value / len(parts) for key, value in logs.items()})
        logs.outputs = {key: _joined([each[key] for each in outputs]) for key in outputs[0]}
        return gradients, logs

    def _gradients(self, batch: Batch) -> tuple[list[Any], StepLogs]:
        with tf.GradientTape() as tape, dropout_keys(batch.get("seed")):
            logs = self.loss(batch)
            total = sums.total([logs["loss"], *self.regularisation()])
            # the optimizer sums over the replicas; in half precision it undoes the scale
            total = self.updates[0].optimizer.scale_loss(total / replicas.count())
        return tape.gradient(total, self._variables), logs

    def _clipped(self, gradients: list[Any]) -> list[Any]:
        """The gradients, clipped as those of the joint batch, not as each replica's part of them."""
        if not (self.clip_norm or self.clip_tensor_norm):
            return gradients
        present = replicas.total([tf.convert_to_tensor(g) for g in gradients if g is not None])
        scale = _scale(self.updates[0].optimizer)
        if self.clip_tensor_norm:
            present = [tf.clip_by_norm(g, self.clip_tensor_norm * scale) for g in present]
        if self.clip_norm:
            present, _ = tf.clip_by_global_norm(present, self.clip_norm * scale)
        clipped = iter([g / replicas.count() for g in present])
        return [None if g is None else next(clipped) for g in gradients]

    def _apply(self, gradients: list[Any]) -> None:
        scale, begin = _scale(self.updates[0].optimizer), 0
        for update in self.updates:
            variables = update.group.variables
            own = gradients[begin : begin + len(variables)]
            begin += len(variables)
            if update is not self.updates[0] and not isinstance(scale, float):
                own = [g if g is None else g * (_scale(update.optimizer) / scale) for g in own]
            if update.frozen is False:
                update.optimizer.apply(own, variables)
                continue
            thawed = tf.cast(tf.logical_not(update.frozen), tf.float32)
            before = [tf.identity(replicas.local(variable)) for variable in variables]
            # no gradient, so the optimizer gathers nothing meanwhile
            update.optimizer.apply([g if g is None else g * tf.cast(thawed, g.dtype) for g in own], variables)
            for variable, value in zip(variables, before, strict=True):
                copy = replicas.local(variable)
                copy.assign(tf.where(update.frozen, value, copy))


def _scale(optimizer: Any) -> Any:
    """By what an optimizer multiplies the loss, and divides the gradients again."""
    scale = getattr(optimizer, "dynamic_scale", None)
    return 1.0 if scale is None else tf.convert_to_tensor(scale)


def _parts(batch: Batch, count: int) -> list[Batch]:
    if count == 1:
        return [batch]
    pieces = {key: tf.split(value, count) for key, value in batch.items()}
    return [{key: values[i] for key, values in pieces.items()} for i in range(count)]


def _joined(parts: list[Any]) -> Any:
    """Outputs of parts of a batch as those of the batch: rows one after the other, scalars as their mean."""
    if len(parts) == 1:
        return parts[0]
    if parts[0].shape.rank == 0:
        return tf.add_n(parts) / len(parts)
    return tf.concat(parts, axis=0)
