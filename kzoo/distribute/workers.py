"""What the processes of one training over several machines agree on: who writes, and what each has heard or found."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from kzoo import replicas


def several(strategy: tf.distribute.Strategy) -> bool:
    """Whether other processes take part in this training."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes: the first worker, or the only process."""
    return not several(strategy) or strategy.cluster_resolver.task_id == 0


def index(strategy: tf.distribute.Strategy) -> int:
    """The number of this process among those that train together, from 0."""
    return strategy.cluster_resolver.task_id if several(strategy) else 0


def gather(strategy: tf.distribute.Strategy, number: int) -> list[int]:
    """The number that each worker calls this with, from the first worker to the last. All must call it."""
    if not several(strategy):
        return [number]

    answers = strategy.experimental_local_results(_exchange(strategy)(tf.constant([number], tf.int64)))[0]
    per_worker = len(strategy.extended.worker_devices)
    return [int(answer) for answer in np.asarray(answers)[::per_worker]]


@functools.cache
def _exchange(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], Any]:
    """Traced once."""
    return tf.function(lambda number: strategy.run(replicas.gather, args=(number,)))
