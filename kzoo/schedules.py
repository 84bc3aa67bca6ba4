"""What changes over a training: a type of option that recipes can write for any coefficient.

    momentum: 0.996                                               # constant
    momentum: {schedule: cosine, start: 0.996, end: 1.0}
    temperature: {schedule: linear, start: 0.04, end: 0.07, epochs: 30}
    rate: {schedule: warmup, epochs: 10, then: {schedule: cosine, start: 0.3, end: 0.0}}
    rate: {schedule: steps, start: 0.03, epochs: [120, 160], factor: 0.1}

A schedule has no state: its value follows from the step alone, so it is right after a resume and equal on all replicas.
`Method.value(option)` evaluates one in the graph. Light: TensorFlow is imported when a value is asked for.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Union

from pydantic import AfterValidator, Discriminator, Field, Tag

from kzoo.options import HIDDEN, Options

_NUMBER = "number"


@dataclass(frozen=True)
class Time:
    """Where a training stands, in epochs.

    epoch: epochs that are done before this step, with their fraction: a float32 scalar tensor, or a number.
    epochs: of the whole training; infinite where its end is not known.
    step: length of one step. begin: where the schedule begins that is asked.
    """

    epoch: Any
    epochs: float = math.inf
    step: float = 0.0
    begin: float = 0.0

    def share(self, epochs: float | None = None) -> Any:
        """The share in [0, 1] that is done of `epochs` epochs from `begin` on; none: of all that is left."""
        import tensorflow as tf

        length = self.epochs - self.begin if epochs is None else epochs
        done = tf.cast(self.epoch, tf.float32) - self.begin
        return tf.clip_by_value(done / length, 0.0, 1.0) if length > 0 else tf.ones_like(done)


class Schedule(Options):
    """Base of the schedules."""

    def at(self, time: Time) -> Any:
        """The value at a time, a float32 scalar tensor."""
        raise TypeError(f"{type(self).__name__} must define at(time)")

    def bounds(self) -> Iterator[float]:
        """The lowest and the highest value it takes, in any order, perhaps others between."""
        raise TypeError(f"{type(self).__name__} must define bounds()")

    def words(self) -> str:
        """It in words, for the plan: "cosine from 0.04 to 0.4"."""
        raise TypeError(f"{type(self).__name__} must define words()")


class _Way(Schedule):
    """From `start` to `end`, in `epochs` epochs or in the whole training; then it stays there."""

    start: float = Field(description="value at the beginning")
    end: float = Field(description="value at the end")
    epochs: float | None = Field(None, gt=0, description="epochs that it takes; none: the whole training")

    def bounds(self) -> Iterator[float]:
        yield from (self.start, self.end)

    def words(self) -> str:
        within = f" in {self.epochs:g} epochs" if self.epochs else ""
        return f"{getattr(self, 'schedule')} from {self.start:g} to {self.end:g}{within}"  # noqa: B009


class Linear(_Way):
    """A straight line."""

    schedule: Literal["linear"] = Field("linear", description="a straight line from start to end")

    def at(self, time: Time) -> Any:
        return self.start + (self.end - self.start) * time.share(self.epochs)


class Cosine(_Way):
    """Half a cosine: slow at both ends."""

    schedule: Literal["cosine"] = Field("cosine", description="half a cosine from start to end")

    def at(self, time: Time) -> Any:
        import tensorflow as tf

        left = (1.0 + tf.cos(math.pi * time.share(self.epochs))) / 2.0
        return self.end + (self.start - self.end) * left


class Steps(Schedule):
    """Constant, times `factor` from each of some epochs on, which are counted from the training's beginning."""

    schedule: Literal["steps"] = Field("steps", description="times factor from each of some epochs on")
    start: float = Field(description="value at the beginning")
    epochs: tuple[float, ...] = Field(min_length=1, description="epochs of the training")
    factor: float = Field(0.1, gt=0, description="what the value is multiplied by at each")

    def at(self, time: Time) -> Any:
        import tensorflow as tf

        epoch = tf.cast(time.epoch, tf.float32)
        passed = [tf.where(epoch >= milestone, self.factor, 1.0) for milestone in self.epochs]
        return self.start * tf.reduce_prod(tf.stack(passed))

    def bounds(self) -> Iterator[float]:
        yield from (self.start, self.start * self.factor ** len(self.epochs))

    def words(self) -> str:
        return f"{self.start:g}, x {self.factor:g} at epochs {', '.join(f'{epoch:g}' for epoch in self.epochs)}"


class WarmUp(Schedule):
    """A straight line from 0 to where another schedule begins, then that schedule over what is left of the training.

    The first of n steps takes 1/n of the value: a learning rate of 0 would waste it.
    """

    schedule: Literal["warmup"] = Field("warmup", description="a straight line from 0, then another schedule")
    epochs: float = Field(ge=0, description="epochs of the warm-up")
    then: "Scheduled" = Field(description="what comes after it: a number or a schedule")

    def at(self, time: Time) -> Any:
        import tensorflow as tf

        value = value_at(self.then, replace(time, begin=time.begin + self.epochs))
        if not self.epochs:
            return value
        done = tf.cast(time.epoch, tf.float32) - time.begin + time.step
        return value * tf.minimum(1.0, done / self.epochs)

    def bounds(self) -> Iterator[float]:
        yield from (0.0, *bounds_of(self.then))

    def words(self) -> str:
        return f"warm-up of {self.epochs:g} epochs, then {words_of(self.then)}"


def _kind(option: Any) -> str | None:
    """Which schedule a value stands for, or that it is a number; None where it is no schedule that is known."""
    name = option.get("schedule") if isinstance(option, dict) else getattr(option, "schedule", _NUMBER)
    return f"{HIDDEN}{name}" if name in (_NUMBER, *_KINDS) else None


_KINDS = ("linear", "cosine", "steps", "warmup")

Scheduled = Annotated[
    Union[  # noqa: UP007
        Annotated[float, Tag(f"{HIDDEN}{_NUMBER}")],
        Annotated[Linear, Tag(f"{HIDDEN}linear")],
        Annotated[Cosine, Tag(f"{HIDDEN}cosine")],
        Annotated[Steps, Tag(f"{HIDDEN}steps")],
        Annotated[WarmUp, Tag(f"{HIDDEN}warmup")],
    ],
    Discriminator(
        _kind,
        custom_error_type="schedule",
        custom_error_message=f"expected a number, or a section with schedule: {', '.join(_KINDS[:-1])} or {_KINDS[-1]}",
    ),
]
WarmUp.model_rebuild()


def value_at(option: Any, time: Time) -> Any:
    """A number or a schedule at a time: a float32 scalar tensor."""
    import tensorflow as tf

    return option.at(time) if isinstance(option, Schedule) else tf.constant(option, tf.float32)


def bounds_of(option: Any) -> list[float]:
    """The lowest and the highest value of a number or a schedule, perhaps others between."""
    return list(option.bounds()) if isinstance(option, Schedule) else [float(option)]


def words_of(option: Any) -> str:
    """A number or a schedule in words."""
    return option.words() if isinstance(option, Schedule) else f"{option:.4g}"


@dataclass(frozen=True)
class _Within:
    """Refuses an option that leaves a range at any time. above: whether `low` itself is refused."""

    low: float
    high: float = math.inf
    above: bool = False

    def __call__(self, option: Any) -> Any:
        for value in bounds_of(option):
            if not self.low <= value <= self.high or (self.above and value == self.low):
                least = f"{'above' if self.above else 'at least'} {self.low:g}"
                most = f" and at most {self.high:g}" if self.high < math.inf else ""
                raise ValueError(f"expected {least}{most} at all times; received {value:g}")
        return option


def _not_only_zero(option: Any) -> Any:
    if max(bounds_of(option)) == 0.0:
        raise ValueError("expected above 0; received 0")
    return option


Share = Annotated[Scheduled, AfterValidator(_Within(0.0, 1.0))]  # a momentum, a probability
Positive = Annotated[Scheduled, AfterValidator(_Within(0.0, above=True))]  # a temperature
Rate = Annotated[Scheduled, AfterValidator(_Within(0.0)), AfterValidator(_not_only_zero)]  # a learning rate
NonNegative = Annotated[Scheduled, AfterValidator(_Within(0.0))]  # the weight of a loss, a weight decay
