"""Every name of Keras and TensorFlow that is not public and that kzoo needs, in one place.

tests/test_private.py tells for each what it is for, and when it is needed no more.
"""

from collections.abc import Callable
from typing import Any

import keras
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import backprop, context
from tensorflow.python.framework import convert_to_constants, op_def_registry

__all__ = [
    "KerasTraining",
    "add_gradients_with",
    "every_layer",
    "in_use",
    "operation",
    "sum_of_gradients",
    "with_constants",
]


class KerasTraining(keras.Model):
    """What lets `fit` run under MultiWorkerMirroredStrategy, where it fails otherwise (keras#20585)."""

    def _maybe_symbolic_build(self, iterator: Any = None, **kwargs: Any) -> None:
        """Build nothing: Keras would build again, under no strategy. Keep what counts the steps of an epoch."""
        self.epoch_iterator = iterator

    def _make_function(self, step_function: Callable[[Any], Any]) -> Any:
        """Compile what `prepared_step` makes of a step."""
        return super()._make_function(self.prepared_step(step_function))

    def prepared_step(self, step_function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The step as it is to be compiled."""
        return step_function


def every_layer(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model with those inside nested models and composite layers."""
    return list(model._flatten_layers())


def add_gradients_with(aggregate: Callable[[list[Any]], Any] | None) -> None:
    """Let a tape add the gradients of a tensor with a function; none: with TensorFlow's own."""
    space = backprop._default_vspace
    pywrap_tfe.TFE_Py_RegisterVSpace(space if aggregate is None else space._replace(aggregate_fn=aggregate))


def sum_of_gradients(gradients: list[Any]) -> Any:
    """TensorFlow's own sum, which also knows sparse gradients."""
    return backprop._aggregate_grads(gradients)


def in_use() -> bool:
    """Whether TensorFlow has used its devices in this process: from then on the CPU cannot be cut in logical ones."""
    return context.context()._initialized


def operation(name: str) -> Any:
    """What TensorFlow knows of an operation, such as whether it has side effects; None where it has no such one."""
    return op_def_registry.get(name)


def with_constants(function: Any) -> Any:
    """A traced function with constants in place of what it captured, and the functions that it calls put in place."""
    return convert_to_constants.convert_variables_to_constants_v2(
        function, lower_control_flow=False, aggressive_inlining=True
    )
