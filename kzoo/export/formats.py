"""The writers of formats beside the SavedModel.

Each holds `serving_default` alone: it takes what the SavedModel takes, so the preprocessing of pixels is inside. Keras'
own exporters write LiteRT and OpenVINO, from one small model.
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.export.frozen import freeze
from kzoo.modality import Served, Signature


@dataclass(frozen=True)
class Exportable:
    """What a writer is given.

    backbone: as a Keras model. served: its signatures, traced; "serving_default" takes the modality's key.
    further: the method's functions behind the signatures that are not the backbone's own.
    """

    backbone: keras.Model
    served: Served
    further: Mapping[str, Signature] = field(default_factory=dict)

    @property
    def takes(self) -> tf.TensorSpec:
        """The one input of `serving_default`."""
        [spec] = tf.nest.flatten(self.served.functions["serving_default"].structured_input_signature)
        return spec

    def model(self) -> keras.Model:
        """`serving_default` as a Keras model."""
        return ServingDefault(self.backbone, self.served.functions["serving_default"], self.takes.name)


class ServingDefault(keras.Model):
    def __init__(self, backbone: keras.Model, function: Any, key: str):
        super().__init__()
        self.backbone, self.function, self.key = backbone, function, key
        self.built = True

    def call(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.function(**{self.key: inputs})


def write_litert(exportable: Exportable, file: Path) -> dict[str, Any]:
    """With LiteRT's own operations alone: those of TensorFlow would need its whole library on the device."""
    _by_keras(exportable, file, "litert", target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]})
    return {}


def write_onnx(exportable: Exportable, file: Path) -> dict[str, Any]:
    """Through tf2onnx, from the frozen graph: Keras' exporter gives it captured constants, which it takes for inputs.

    Of its optimizers those that make a difference to these networks. `BackToBackOptimizer` is left out: it joins two
    reshapes in a row, also where the second keeps a length of the first's output, which then is one of its input.
    """
    with _quiet():
        from tf2onnx import optimizer, tf_loader, tfonnx, utils

        function = freeze(exportable.served.functions["serving_default"])
        inputs, outputs = ([tensor.name for tensor in some] for some in (function.inputs, function.outputs))
        with function.graph.as_default():
            graph = tf_loader.tf_optimize(inputs, outputs, function.graph.as_graph_def(add_shapes=True))
        with tf.Graph().as_default() as place:
            tf.import_graph_def(graph, name="")
            names = {inputs[0]: exportable.takes.name, outputs[0]: "embedding"}
            written = tfonnx.process_tf_graph(
                place,
                input_names=inputs,
                output_names=outputs,
                tensors_to_rename=names,
                custom_op_handlers={"Erfc": (_one_minus_erf, [])},
            )
        chosen = (
            optimizer.TransposeOptimizer,
            optimizer.ConstFoldOptimizer,
            optimizer.MergeDuplicatedNodesOptimizer,
            optimizer.ReshapeOptimizer,
            optimizer.GlobalPoolOptimizer,
            optimizer.IdentityOptimizer,
        )
        written = optimizer.optimize_graph(written, catch_errors=True, optimizers={one.__name__: one for one in chosen})
        utils.save_protobuf(str(file), written.make_model("kzoo"))
    return {}


def _one_minus_erf(graph: Any, node: Any, name: str, _: Any) -> None:
    """In place of TensorFlow's erfc, of exact GELU, which ONNX does not have."""
    from tf2onnx import utils

    about = {"dtypes": [graph.get_dtype(node.output[0])], "shapes": [graph.get_shape(node.output[0])]}
    one = graph.make_const(utils.make_name("one"), np.ones((), utils.map_onnx_to_numpy_type(*about["dtypes"])))
    graph.remove_node(name)
    erf = graph.make_node("Erf", node.input, **about)
    graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=node.output, name=name, **about)


def write_openvino(exportable: Exportable, file: Path) -> dict[str, Any]:
    """The network as XML, and beside it its weights, `.bin`. Nothing is sent to Intel."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # importing it fails, and OpenVINO goes on
    _by_keras(exportable, file, "openvino")
    return {}


def _by_keras(exportable: Exportable, file: Path, name: str, **options: Any) -> None:
    takes = exportable.takes
    signature = [keras.InputSpec(shape=takes.shape.as_list(), dtype=takes.dtype.name, name=takes.name)]
    with _quiet():
        exportable.model().export(str(file), format=name, input_signature=signature, verbose=False, **options)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what converters write to the error stream, C++ and Python alike: a failure raises."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as kept, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
