"""What a plugin's own tests may call to prove that its method trains on many replicas as on one."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from kzoo import devices
from kzoo.method import Method


@dataclass(frozen=True)
class Trace:
    """What some training steps left.

    losses: of each step, `[steps]`. weights: every variable of the method afterwards.
    spread: the largest difference between two replicas' copies of any variable; 0 where they are equal.
    """

    losses: np.ndarray
    weights: list[np.ndarray]
    spread: float

    def distance(self, other: "Trace") -> float:
        """The largest difference from another trace, of any step's loss or any weight."""
        gaps = [np.abs(self.losses - other.losses).max()]
        gaps += [np.abs(a - b).max(initial=0.0) for a, b in zip(self.weights, other.weights, strict=True)]
        return float(max(gaps))


def train_on_replicas(
    build: Callable[[], Method],
    count: int,
    *,
    images: np.ndarray,
    batch_size: int,
    steps: int = 10,
    optimizer: Callable[[], object] | None = None,
    seed: int = 0,
) -> Trace:
    """Train some steps on `count` logical devices of this machine's CPU, in float64.

    Float64, because rounding differs between batch sizes, and a unit at the edge of its ReLU makes a difference of 1e-7
    in a float32 activation one of 1e-3 in the gradient: faults of that size could not be told from rounding.

    Call it in a process that has not used TensorFlow before, or that used it with at least `count` logical devices
    (`kzoo.devices.split_cpu`), and compare traces of other counts with `Trace.distance`.

    Args:
        build: builds the method; called inside the strategy's scope, after seeding Keras. images: uint8 `[N, H, W, C]`.
        batch_size: of all replicas together. optimizer: builds it, by default SGD with momentum.
    """
    strategy = devices.make_strategy("mirrored" if count > 1 else "single", count, batch_size)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        with strategy.scope():
            keras.utils.set_random_seed(seed)
            method = build()
            method.compile(optimizer() if optimizer else keras.optimizers.SGD(0.05, momentum=0.9))
    finally:
        keras.config.set_dtype_policy(policy)
    log = _Losses()
    method.fit(
        images,
        batch_size=batch_size,
        seed=seed,
        epochs=1,
        steps_per_epoch=steps,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=log)],
    )
    weights, spread = [], 0.0
    for variable in method.variables:
        copies = [np.asarray(copy) for copy in strategy.experimental_local_results(variable.value)]
        weights.append(copies[0])
        spread = max([spread, *(float(np.abs(copy - copies[0]).max(initial=0.0)) for copy in copies[1:])])
    return Trace(np.array(log.values), weights, spread)


class _Losses:
    def __init__(self) -> None:
        self.values: list[float] = []

    def __call__(self, batch: int, logs: dict[str, float]) -> None:
        self.values.append(float(logs["loss"]))
