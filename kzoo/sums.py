"""Sums whose last bit does not depend on which thread came first.

TensorFlow's AddN begins with whichever of its inputs nothing else will read any more, so that it can add into that
buffer. Of three inputs or more, that is a matter of timing, and so is the rounding. Gradients are summed with AddN, and
the graph optimiser makes one of `a + b + c`. A training could not be repeated to the bit.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import backprop

_SAFE = 2  # inputs: a + b is b + a


def total(terms: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum of tensors of one shape, in their order."""
    return tf.add_n(terms) if len(terms) <= _SAFE else tf.reduce_sum(tf.stack(terms), axis=0)


def keep_order() -> None:
    """From now on, sum gradients and `a + b + c` in their order, in this process."""
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    space = backprop._default_vspace  # no public name leads to how a tape adds gradients
    pywrap_tfe.TFE_Py_RegisterVSpace(space._replace(aggregate_fn=_add_gradients))


def _add_gradients(gradients: list[Any]) -> Any:
    if len(gradients) > _SAFE and all(isinstance(gradient, tf.Tensor) for gradient in gradients):
        return total(gradients)
    return backprop._aggregate_grads(gradients)
