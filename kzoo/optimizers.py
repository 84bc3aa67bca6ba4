"""Optimizers and learning-rate schedules of the papers, built from a recipe's `optimizer:` section.

Keras decays weights outside the gradient for every optimizer; the papers' SGD and Adam add weight_decay * weight to
the gradient, inside the momentum ("coupled"). Biases and normalisation parameters (fewer than two axes) decay only
where the recipe says `decay_scope: all`, as torch's optimizers do where nobody excludes them.
"""

import math
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from pydantic import TypeAdapter

from kzoo.schedules import Schedule, Scheduled, Time, bounds_of, value_at

if TYPE_CHECKING:
    from kzoo.recipe.schema import Optimizer


_SCHEDULE: TypeAdapter[Any] = TypeAdapter(Scheduled)


def decays(variable: Any) -> bool:
    """Whether this variable is a weight, not a bias or a parameter of a normalisation: those LARS never adapts."""
    return len(variable.shape) > 1


@keras.saving.register_keras_serializable("kzoo")
class OverSteps(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of `kzoo.schedules` as a function of the optimizer's step: a learning rate, or a weight decay.

    Args:
        option: the schedule, or its plain data. epochs: of the training. factor: what its value is multiplied by.
    """

    def __init__(self, option: Any, steps_per_epoch: int, epochs: int, factor: float = 1.0):
        self.option = _SCHEDULE.validate_python(option)
        self.steps_per_epoch, self.epochs, self.factor = steps_per_epoch, epochs, factor

    def __call__(self, step: Any) -> tf.Tensor:
        epoch = tf.cast(step, "float32") / self.steps_per_epoch
        return self.factor * value_at(self.option, Time(epoch, self.epochs, step=1.0 / self.steps_per_epoch))

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("steps_per_epoch", "epochs", "factor")}
        return {"option": _SCHEDULE.dump_python(self.option, mode="json"), **own}


class _Coupled:
    """Adds `l2 * weight` to the gradient of every decaying variable before the optimizer sees it.

    decay_all: biases and normalisation parameters decay too, coupled or decoupled. l2, decoupled: numbers, or
    `OverSteps`; the decoupled decay here is for those that change, a constant one is Keras' own `weight_decay`.
    """

    def __init__(self, *args: Any, l2: Any = 0.0, decoupled: Any = 0.0, decay_all: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.l2, self.decoupled, self.decay_all = _coefficient(l2), _coefficient(decoupled), decay_all

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.decay_all or decays(variable):
            iterations = self.iterations  # type: ignore[attr-defined]
            if self.l2:
                gradient = tf.convert_to_tensor(gradient)
                gradient = gradient + _now(self.l2, iterations, gradient.dtype) * variable
            if self.decoupled:
                share = _now(self.decoupled, iterations, variable.dtype) * tf.cast(learning_rate, variable.dtype)
                self.assign_sub(variable, share * variable)  # type: ignore[attr-defined]
        super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        own = {"l2": _plain(self.l2), "decoupled": _plain(self.decoupled), "decay_all": self.decay_all}
        return {**super().get_config(), **own}  # type: ignore[misc]


def _coefficient(value: Any) -> Any:
    """A number or an `OverSteps`, also from the configuration of one."""
    return keras.optimizers.schedules.deserialize(value) if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    return keras.optimizers.schedules.serialize(value) if isinstance(value, OverSteps) else value


def _now(value: Any, iterations: Any, kind: Any) -> tf.Tensor:
    return tf.cast(value(iterations) if isinstance(value, OverSteps) else value, kind)


@keras.saving.register_keras_serializable("kzoo")
class SGD(_Coupled, keras.optimizers.SGD):
    """SGD with momentum and coupled decay `l2`."""


@keras.saving.register_keras_serializable("kzoo")
class Adam(_Coupled, keras.optimizers.Adam):
    """Adam with coupled decay `l2`."""


@keras.saving.register_keras_serializable("kzoo")
class LARS(keras.optimizers.Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv:1708.03888), as the self-supervised papers use it.

    For kernels: g' = g + l2 * v; trust = eta * ||v|| / ||g'||, 1 where either norm is 0.
    For biases and normalisation parameters: g' = g (with decay_all as for kernels), trust = 1. Then
    m = momentum * m + trust * g'; v = v - lr * m.
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        momentum: float = 0.9,
        l2: Any = 0.0,
        trust_coefficient: float = 1e-3,
        decay_all: bool = False,
        name: str = "lars",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum, self.l2, self.decay_all = momentum, _coefficient(l2), decay_all
        self.trust_coefficient = trust_coefficient

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self.momenta = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        learning_rate = tf.cast(learning_rate, variable.dtype)
        momentum = self.momenta[self._get_variable_index(variable)]
        gradient = tf.convert_to_tensor(gradient)
        if self.decay_all or decays(variable):
            gradient = gradient + _now(self.l2, self.iterations, variable.dtype) * variable
        if decays(variable):
            weight_norm, gradient_norm = _norm(variable), _norm(gradient)
            known = tf.logical_and(weight_norm > 0, gradient_norm > 0)
            ratio = tf.cast(self.trust_coefficient, variable.dtype) * weight_norm / tf.where(known, gradient_norm, 1.0)
            gradient = gradient * tf.where(known, ratio, tf.ones_like(ratio))
        self.assign(momentum, self.momentum * momentum + gradient)
        self.assign_sub(variable, learning_rate * momentum)

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("momentum", "trust_coefficient", "decay_all")}
        return {**super().get_config(), **own, "l2": _plain(self.l2)}


def _norm(x: Any) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(x)))


@keras.saving.register_keras_serializable("kzoo")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0, then constant, half a cosine down to `final * peak`, or drops at milestones.

    Args:
        peak: the rate after warm-up. warmup, steps: in optimizer steps. shape: "constant", "cosine" or "step".
        milestones: steps at which "step" multiplies the rate by `drop`.
    """

    def __init__(
        self,
        peak: float,
        warmup: int,
        steps: int,
        shape: str = "cosine",
        final: float = 0.0,
        milestones: tuple[int, ...] = (),
        drop: float = 0.1,
    ):
        self.peak, self.warmup, self.steps, self.shape = peak, warmup, steps, shape
        self.final, self.milestones, self.drop = final, tuple(milestones), drop

    def __call__(self, step: Any) -> tf.Tensor:
        step = tf.cast(step, "float32")
        rate = tf.constant(1.0)
        if self.shape == "cosine":
            progress = tf.clip_by_value((step - self.warmup) / max(1, self.steps - self.warmup), 0.0, 1.0)
            rate = self.final + (1.0 - self.final) * 0.5 * (1.0 + tf.cos(math.pi * progress))
        elif self.shape == "step":
            for milestone in self.milestones:
                rate = rate * tf.where(step >= milestone, self.drop, 1.0)
        if self.warmup:
            rate = rate * tf.minimum(1.0, (step + 1.0) / self.warmup)
        return self.peak * rate

    def get_config(self) -> dict[str, Any]:
        names = ("peak", "warmup", "steps", "shape", "final", "milestones", "drop")
        return {name: getattr(self, name) for name in names}


def build(settings: "Optimizer", *, batch_size: int, steps_per_epoch: int, epochs: int) -> keras.optimizers.Optimizer:
    """The optimizer of a recipe. Call it inside the strategy's scope; `without_decay` before it is built."""
    rate: Any = WarmUp(
        peak=settings.scaling(batch_size) * max(bounds_of(settings.learning_rate)),
        warmup=round(settings.warmup_epochs * steps_per_epoch),
        steps=epochs * steps_per_epoch,
        shape=settings.schedule,
        final=settings.final,
        milestones=tuple(epoch * steps_per_epoch for epoch in settings.milestones),
        drop=settings.drop,
    )
    if isinstance(settings.learning_rate, Schedule):
        rate = OverSteps(settings.learning_rate, steps_per_epoch, epochs, settings.scaling(batch_size))
    decay: Any = settings.weight_decay
    changing = isinstance(decay, Schedule)
    if changing:
        decay = OverSteps(decay, steps_per_epoch, epochs)
    coupled = settings.kind_of_decay == "coupled"
    l2: dict[str, Any] = {"l2": decay if coupled else 0.0, "decay_all": settings.decay_scope == "all"}
    decoupled: dict[str, Any] = {} if coupled or not decay else {"decoupled" if changing else "weight_decay": decay}
    betas: dict[str, Any] = {"beta_1": settings.beta_1, "beta_2": settings.beta_2}
    if settings.name == "sgd":
        return SGD(rate, momentum=settings.momentum, nesterov=settings.nesterov, **l2, **decoupled)
    if settings.name == "lars":
        return LARS(rate, momentum=settings.momentum, trust_coefficient=settings.trust_coefficient, **l2, **decoupled)
    return Adam(rate, epsilon=1e-8, **betas, **l2, **decoupled)  # "adam" and "adamw" differ in the decay alone


@keras.saving.register_keras_serializable("kzoo")
class Scaled(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule times a factor."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, factor: float):
        self.schedule, self.factor = schedule, factor

    def __call__(self, step: Any) -> tf.Tensor:
        return self.factor * self.schedule(step)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.optimizers.schedules.serialize(self.schedule), "factor": self.factor}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Scaled":
        return cls(keras.optimizers.schedules.deserialize(config["schedule"]), config["factor"])


def another(
    optimizer: keras.optimizers.Optimizer, factor: float, weight_decay: float | None = None, constant: bool = False
) -> keras.optimizers.Optimizer:
    """A new optimizer configured as this one, with its learning rate times a factor. In the strategy's scope.

    weight_decay: in place of its own, coupled or decoupled as that is. constant: the rate does not change; of a
    `WarmUp` it is the peak, of another schedule what that begins with.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        inner = another(optimizer.inner_optimizer, factor, weight_decay, constant)
        return keras.optimizers.LossScaleOptimizer(inner)
    config = optimizer.get_config()
    if weight_decay is not None:
        config["l2" if config.get("l2") else "weight_decay"] = weight_decay
        config |= {"decoupled": 0.0} if config.get("decoupled") else {}
    rate = config["learning_rate"]
    if isinstance(rate, dict) and constant:
        schedule = keras.optimizers.schedules.deserialize(rate)
        rate = schedule.peak if isinstance(schedule, WarmUp) else float(schedule(0))
    if isinstance(rate, dict):
        rate = Scaled(keras.optimizers.schedules.deserialize(rate), factor)
        config["learning_rate"] = keras.optimizers.schedules.serialize(rate)
    else:
        config["learning_rate"] = factor * rate
    return type(optimizer).from_config(config)


def without_decay(optimizer: keras.optimizers.Optimizer, variables: list[Any]) -> None:
    """Keep decoupled decay off biases and normalisation parameters, unless it is for all. Before `optimizer.build`."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if getattr(optimizer, "decay_all", False):
        return
    still = [variable for variable in variables if not decays(variable)]
    if optimizer.weight_decay and still:
        optimizer.exclude_from_weight_decay(var_list=still)
