"""How each format is read: a file becomes a function from named arrays to named arrays.

Each reader runs in a process of its own that has neither kzoo nor Keras, nor TensorFlow where that is not its runtime
(`kzoo.export.clean`). So this module imports NumPy alone, and each reader the runtime that it is for.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]
Read = Callable[[Arrays], Arrays]


def saved_model(file: str) -> Read:
    """By TensorFlow alone."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(Path(file).parent)).signatures["serving_default"]

    def read(inputs: Arrays) -> Arrays:
        outputs = serve(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return read


def litert(file: str) -> Read:
    """By LiteRT's interpreter; its signature takes a batch of any size."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file)  # keep it: the runner does not
    runner = interpreter.get_signature_runner("serving_default")
    return lambda inputs: dict(runner(**inputs))


def onnx(file: str) -> Read:
    """By ONNX Runtime on the processor."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def openvino(file: str) -> Read:
    """By OpenVINO on the processor, in float32: it would choose bfloat16 where the processor has it."""
    import openvino

    model = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def read(inputs: Arrays) -> Arrays:
        outputs = model(inputs)
        return {output.get_any_name(): np.array(outputs[output]) for output in model.outputs}

    return read
