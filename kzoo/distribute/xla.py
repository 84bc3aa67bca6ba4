"""Whether XLA can compile a step, asked before the first one: a kernel that it lacks is no reason to end a training."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kzoo.errors import TrainingError

_KERNEL = re.compile(r"on XLA_\w+: (.+?) \(No registered")


def ask(method: Any, batches: Any) -> None:
    """Let a method that was compiled with "auto" train without XLA, with a warning, where XLA cannot compile its step.

    Raises TrainingError where XLA was asked for.
    """
    if not method.jit_compile or method.train_function is not None or not isinstance(batches, tf.data.Dataset):
        return
    if why := refusal(method.train_step, batches.element_spec):
        problem = f"{method.name}: XLA cannot compile its step: {why}"
        if not method.may_do_without_xla:
            raise TrainingError(f"{problem}; set train.jit_compile to auto or false")
        warnings.warn(f"{problem}; training goes on without, which is slower", stacklevel=2)
        method.jit_compile = False


def refusal(step: Callable[[Any], Any], kind: Any) -> str:
    """Why XLA cannot compile a step, in one line; "" where it can.

    It is translated for XLA and not compiled further, which takes as long as tracing it once more.

    Args:
        kind: the `tf.TensorSpec`s of the batch that the step takes.
    """
    batch = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), kind)
    compiled = tf.function(step, jit_compile=True, autograph=False)
    try:
        compiled.experimental_get_compiler_ir(batch)(stage="hlo")
    except (tf.errors.OpError, ValueError, TypeError) as error:
        message = " ".join(str(error).split())
        kernel = _KERNEL.search(message)
        return f"it has no kernel for {kernel[1]}" if kernel else message[:200]
    return ""
