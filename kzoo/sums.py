"""Sums whose last bit does not depend on which thread came first.

TensorFlow's AddN begins with whichever of its inputs nothing else will read any more, so that it can add into that
buffer. Of three inputs or more, that is a matter of timing, and so is the rounding. Gradients are summed with AddN, and
the graph optimiser makes one of `a + b + c`. A training could not be repeated to the bit.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from kzoo.system import private

_SAFE = 2  # inputs: a + b is b + a


def total(terms: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum of tensors of one shape, in their order."""
    return tf.add_n(terms) if len(terms) <= _SAFE else tf.reduce_sum(tf.stack(terms), axis=0)


@contextmanager
def in_order() -> Iterator[None]:
    """Within the block gradients, and `a + b + c` in a graph that is run there first, are summed in their order.

    Both are settings of the whole process, so they are taken back at the end of the block.
    """
    before = tf.config.optimizer.get_experimental_options().get("arithmetic_optimization", True)
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    private.add_gradients_with(_add_gradients)
    try:
        yield
    finally:
        private.add_gradients_with(None)
        tf.config.optimizer.set_experimental_options({"arithmetic_optimization": before})


def _add_gradients(gradients: list[Any]) -> Any:
    if len(gradients) > _SAFE and all(isinstance(gradient, tf.Tensor) for gradient in gradients):
        return total(gradients)
    return private.sum_of_gradients(gradients)
