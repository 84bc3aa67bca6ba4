"""A traced function as one graph, for converters: what it reads is in it as constants, and nothing is called in it."""

from typing import Any

import tensorflow as tf

from kzoo.system.private import with_constants

_PLAIN = "_plain"


def freeze(function: Any) -> Any:
    """The same function, a `ConcreteFunction` whose inputs are its arguments alone.

    Variables become constants, and so do the tensors that were captured where it was traced, such as the mean of a
    preprocessing, which tf2onnx takes for further inputs. Keras compiles grouped convolutions by XLA, each a function
    of its own, which TensorFlow leaves as calls: they are marked as plain functions and put in their places.
    """
    frozen = with_constants(function)
    graph = frozen.graph.as_graph_def()
    if not graph.library.function:
        return frozen
    nodes = [*graph.node, *(node for called in graph.library.function for node in called.node_def)]
    for called in graph.library.function:
        called.attr.pop("_XlaMustCompile", None)
        called.signature.name += _PLAIN  # TensorFlow keeps functions by their names, and would find the other one
    for node in nodes:
        node.attr.pop("_XlaMustCompile", None)
        for value in node.attr.values():
            if value.func.name:
                value.func.name += _PLAIN
    imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    names = [[tensor.name for tensor in some] for some in (frozen.inputs, frozen.outputs)]
    return with_constants(imported.prune(*names))
