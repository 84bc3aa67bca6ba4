"""What layers deep in a model are told by the step that calls it: keys to draw from, parts of the batch."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

_scope = threading.local()


def told(name: str) -> Any:
    """What layers are told under a name in this thread, now; none: nothing."""
    return getattr(_scope, name, None)


@contextmanager
def _within(name: str, value: Any) -> Iterator[None]:
    """What layers that are called in this context, by this thread, find in `_scope` under a name."""
    before = getattr(_scope, name, None)
    setattr(_scope, name, value)
    try:
        yield
    finally:
        setattr(_scope, name, before)


@contextmanager
def split_batch_statistics(groups: int) -> Iterator[None]:
    """Within this context batch normalisation cuts each replica's batch in `groups` equal parts, one after the other.

    Each part is normalised with its own statistics: split BN, and with shuffled keys MoCo's shuffling BN. The moving
    averages take the mean over all parts of all replicas, so that all copies stay equal. Enter it where the model is
    called, inside `train_step`: it holds for the calling thread and is read while tracing.
    """
    with _within("groups", groups):
        yield


@contextmanager
def dropout_keys(keys: tf.Tensor) -> Iterator[None]:
    """Within this context `Dropout` draws what to leave out from these keys, int64 `[B]`, one for each example.

    `Method` enters it with the batch's "seed" for all that `minimise` computes. It holds for the calling thread and is
    read while tracing.
    """
    with _within("keys", keys):
        yield
