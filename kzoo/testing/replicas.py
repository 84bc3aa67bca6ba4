"""Training in float64 on any number of replicas, and what it leaves, for comparison number by number."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from kzoo.data.arrays import array_source
from kzoo.data.source import Source
from kzoo.data.streams import deterministic
from kzoo.distribute import devices
from kzoo.method import Batch, Method


@dataclass(frozen=True)
class Trace:
    """What some training steps left.

    losses: of each step, `[steps]`. weights: every variable of the method afterwards. paths: the variables' names.
    spreads: of each variable the largest difference between two replicas' copies; 0 where they are equal.
    """

    losses: np.ndarray
    weights: list[np.ndarray]
    paths: list[str]
    spreads: list[float]

    @property
    def spread(self) -> float:
        """The largest difference between two replicas' copies of any variable."""
        return max(self.spreads, default=0.0)

    def distance(self, other: "Trace") -> float:
        """The largest difference from another trace, of any step's loss or any weight; relative for values above 1."""
        return self.worst(other)[1]

    def worst(self, other: "Trace") -> tuple[str, float]:
        """Where another trace differs most, and by how much; as `distance`."""
        differences = self.differences(other)
        name = max(differences, key=differences.__getitem__)
        return name, differences[name]

    def differences(self, other: "Trace") -> dict[str, float]:
        """The largest difference in the losses, "the loss", and in each variable, by name. NaN counts as infinite."""
        pairs = {"the loss": (self.losses, other.losses)}
        for number, path in enumerate(self.paths):  # a teacher's variables may have the names of the student's
            pairs[f"variable {number}, {path}"] = self.weights[number], other.weights[number]
        return {name: _gap(*pair) for name, pair in pairs.items()}


def _gap(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, relative to the largest value above 1; infinite where something is not a number."""
    gaps = np.abs(np.subtract(one, other, dtype="float64")) / max(1.0, float(np.abs(other).max(initial=0.0)))
    return float(np.nan_to_num(gaps, nan=np.inf).max(initial=0.0))


def train_on_replicas(
    build: Callable[[], Method],
    count: int,
    *,
    images: np.ndarray | Source,
    batch_size: int,
    steps: int = 10,
    optimizer: Callable[[], object] | None = None,
    seed: int = 0,
) -> Trace:
    """Train some steps on `count` logical devices of this machine's CPU, in float64.

    Float64, because rounding differs between batch sizes, and a unit at the edge of its ReLU makes a difference of 1e-7
    in a float32 activation one of 1e-3 in the gradient: faults of that size could not be told from rounding.

    Call it in a process that has not used TensorFlow before, or that used it with at least `count` logical devices
    (`kzoo.distribute.devices.split_cpu`), and compare traces of other counts with `Trace.distance`.

    Args:
        build: builds the method; called inside the strategy's scope, after seeding Keras.
        images: uint8 `[N, H, W, C]`, or a source. batch_size: of all replicas together.
        steps: in epochs of N // batch_size steps where that divides, else in one epoch.
        optimizer: builds it, by default SGD with momentum.
    """
    source = images if isinstance(images, Source) else array_source("images", images)
    strategy = devices.make_strategy("mirrored" if count > 1 else "single", count, batch_size)
    return train_under(strategy, build, source, batch_size=batch_size, steps=steps, optimizer=optimizer, seed=seed)


def train_under(
    strategy: tf.distribute.Strategy,
    build: Callable[[], Method],
    source: Source,
    *,
    batch_size: int,
    steps: int = 10,
    optimizer: Callable[[], object] | None = None,
    seed: int = 0,
) -> Trace:
    """As `train_on_replicas`, under any strategy, such as that of several workers."""
    method = build_in_float64(build, strategy, optimizer, steps, seed)
    per_epoch = source.size // batch_size
    epochs, rest = divmod(steps, per_epoch)
    log = _Log()
    method.fit_batches(
        method.stream(source, batch_size=batch_size, seed=seed),
        epochs=1 if rest else epochs,
        steps_per_epoch=steps if rest else per_epoch,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=log)],
    )
    return trace(method, log.figures)


def build_in_float64(
    build: Callable[[], Method],
    strategy: tf.distribute.Strategy | None = None,
    optimizer: Callable[[], object] | None = None,
    steps: int | None = None,
    seed: int = 0,
    jit_compile: bool = False,
) -> Method:
    """Build and compile a method under a strategy. steps: of the whole training. The other arguments as above."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        with (strategy or tf.distribute.get_strategy()).scope():
            keras.utils.set_random_seed(seed)
            method = build()
            method.compile(
                optimizer() if optimizer else keras.optimizers.SGD(0.05, momentum=0.9),
                total_steps=steps,
                jit_compile=jit_compile,
            )
    finally:
        keras.config.set_dtype_policy(policy)
    return method


def train_on_batches(
    method: Method,
    batches: Sequence[Batch],
    steps: int,
    *,
    epochs: int = 1,
    start: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[dict[str, float]]:
    """Train on global batches that the pretext made, one a step, again from the first after the last.

    Each replica gets its part of each batch. It saves what costs most in a short training, the input pipeline.

    Args:
        steps: of the training, cut in `epochs`; those before step `start` are left out.

    Returns:
        the figures of each step.
    """
    count, per_epoch = method.distribute_strategy.num_replicas_in_sync, steps // epochs

    def parts(name: str) -> np.ndarray:
        joined = np.stack([np.asarray(batch[name]) for batch in batches])
        return joined.reshape(len(batches) * count, joined.shape[1] // count, *joined.shape[2:])

    data = tf.data.Dataset.from_tensor_slices({name: parts(name) for name in batches[0]}).repeat()
    data = deterministic(data.skip(start * count))
    if count > 1:
        data = method.distribute_strategy.distribute_datasets_from_function(lambda context, data=data: data)
    log = _Log()
    keep = keras.callbacks.LambdaCallback(on_train_batch_end=log)
    method.fit_batches(
        data,
        steps_per_epoch=per_epoch,
        epochs=epochs,
        start_step=start,
        verbose=0,
        callbacks=[keep, *callbacks],
    )
    return log.figures


def trace(method: Method, figures: list[dict[str, float]]) -> Trace:
    """What a training leaves, the figures of its steps given."""
    strategy, weights, spreads = method.distribute_strategy, [], []
    for variable in method.variables:
        first, *others = (np.asarray(copy) for copy in strategy.experimental_local_results(variable.value))
        weights.append(first)
        spreads.append(max((_gap(first, other) for other in others), default=0.0))
    losses = np.array([step["loss"] for step in figures])
    return Trace(losses, weights, [variable.path for variable in method.variables], spreads)


class _Log:
    def __init__(self) -> None:
        self.figures: list[dict[str, float]] = []

    def __call__(self, batch: int, logs: dict[str, float]) -> None:
        self.figures.append({name: float(value) for name, value in logs.items()})
