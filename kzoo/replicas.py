"""What code inside a training step may ask of the other replicas. With one replica each function is the identity.

The one owner of cross-replica facts: methods and losses call these, never `tf.distribute`.
"""

from typing import Any

import tensorflow as tf


def count() -> int:
    """Number of replicas that train in step; 1 outside any strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def index() -> tf.Tensor | int:
    """This replica's number, 0 .. count() - 1: a Python 0 with one replica, else an int32 scalar."""
    context = tf.distribute.get_replica_context()
    if context is None or count() == 1:
        return 0
    return context.replica_id_in_sync_group


def gather(x: tf.Tensor) -> tf.Tensor:
    """Concatenate `x` `[b, ...]` of all replicas, in their order, to `[B, ...]`. Gradients flow back to each."""
    if count() == 1:
        return x
    context = _context("gather")
    devices = context.strategy.extended.worker_devices
    with tf.device(devices[_number(context) % len(devices)]):
        x = tf.identity(x)  # a worker with one device gathers only what says where it is
    gathered = context.all_gather(x, axis=0)
    gathered.set_shape(tf.TensorShape([None]).concatenate(x.shape[1:]))  # which is lost between workers
    return gathered


def total(values: Any) -> Any:
    """Sum a tensor, or a list of tensors in one exchange, over the replicas."""
    if count() == 1:
        return values
    return _context("total").all_reduce(tf.distribute.ReduceOp.SUM, values)


def mean(values: Any) -> Any:
    """Average a tensor, or a list of tensors in one exchange, over the replicas."""
    if count() == 1:
        return values
    return _context("mean").all_reduce(tf.distribute.ReduceOp.MEAN, values)


def local(variable: Any) -> tf.Variable:
    """This replica's own copy of a Keras or mirrored variable.

    Writing through it needs no exchange between replicas; the caller must write the same value on each (a gathered
    batch, a function of equal weights), and the conformance suite compares the copies.
    """
    held = copies(variable)
    context = tf.distribute.get_replica_context()
    if context is None or len(held) == 1:
        return held[0]
    return held[_number(context) % len(held)]  # this worker holds the copies of its own replicas only


def _number(context: Any) -> int:
    """The number of a replica among all, as Python knows it while tracing."""
    here = context.replica_id_in_sync_group
    return here if isinstance(here, int) else int(tf.get_static_value(here))


def copies(variable: Any) -> list[tf.Variable]:
    """The copies of a Keras or mirrored variable on all replicas of this process, to be written alike between steps."""
    value = getattr(variable, "value", variable)
    value = value() if callable(value) else value
    return list(value.values) if isinstance(value, tf.distribute.DistributedValues) else [value]


def assign(variable: Any, value: Any) -> None:
    """Write a value to all copies of a variable in this process, between steps; the same in every process."""
    for copy in copies(variable):
        copy.assign(value)


def _context(what: str) -> Any:
    context = tf.distribute.get_replica_context()
    if context is None:
        raise RuntimeError(f"kzoo.replicas.{what}: called outside a replica; call it inside train_step or strategy.run")
    return context
