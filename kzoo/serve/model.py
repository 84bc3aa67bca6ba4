"""One version of an export, loaded: what it takes, what it returns, and its answers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from kzoo.errors import ServeError
from kzoo.export.check_ops import check_ops
from kzoo.serve.refusal import Refusal, shown
from kzoo.serve.sample import sample
from kzoo.serve.tensors import Tensor

DEFAULT = "serving_default"
_ASSERTED = re.compile(r"assertion failed: \[(.*)\]", re.DOTALL)
_NODE = re.compile(r"\s*\[\[\{\{node.*", re.DOTALL)


class Model:
    """An export that TensorFlow has loaded. Several threads may call it at once.

    version: its number. inputs, outputs: of each signature, by name. signature_def: as TF Serving shows it.
    """

    def __init__(self, path: Path):
        """Raises ExportError where the graph can do more than compute, ServeError where it cannot be served."""
        check_ops(path)
        self.version = int(path.name)
        self.signature_def = _signature_def(path)
        self._loaded = tf.saved_model.load(str(path))  # what the functions read lives as long as this does
        self._functions = dict(self._loaded.signatures)
        self.inputs = {
            name: {key: _tensor(key, spec) for key, spec in function.structured_input_signature[1].items()}
            for name, function in self._functions.items()
        }
        self.outputs = {
            name: {key: _tensor(key, spec) for key, spec in function.structured_outputs.items()}
            for name, function in self._functions.items()
        }
        if DEFAULT not in self.inputs:
            raise ServeError(f"{path}: it has no signature '{DEFAULT}'")
        self._warm_up()

    def takes(self, signature: str) -> dict[str, Tensor]:
        """The inputs of a signature. Raises Refusal (400) where there is none of this name."""
        if signature not in self.inputs:
            raise Refusal(400, f"signature {shown(signature)} is not served; there is {', '.join(sorted(self.inputs))}")
        return self.inputs[signature]

    def answer(self, signature: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What a signature returns. Raises Refusal (400) for what the graph itself refuses."""
        try:
            outputs = self._functions[signature](**{name: tf.constant(array) for name, array in arrays.items()})
            return {name: np.asarray(value) for name, value in outputs.items()}
        except tf.errors.InvalidArgumentError as error:
            raise Refusal(400, _reason(error)) from None
        except tf.errors.ResourceExhaustedError:
            raise Refusal(413, "not enough memory for this request; send fewer examples at once") from None

    def _warm_up(self) -> None:
        """Answer once, so that no client waits for it, and no version is served that cannot."""
        for name, inputs in self.inputs.items():
            if request := sample(inputs, self.inputs[DEFAULT]):
                self.answer(name, request)


def _tensor(name: str, spec: Any) -> Tensor:
    if spec.shape.rank is None or not (spec.dtype == tf.string or np.dtype(spec.dtype.as_numpy_dtype).kind in "biuf"):
        raise ServeError(f"'{name}' is {spec.dtype.name} of shape {spec.shape}, which cannot be sent as JSON")
    return Tensor(name, spec.dtype.name, tuple(spec.shape.as_list()))


def _signature_def(path: Path) -> dict[str, Any]:
    saved = SavedModel()
    saved.ParseFromString((path / "saved_model.pb").read_bytes())
    return {
        name: MessageToDict(signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        for name, signature in saved.meta_graphs[0].signature_def.items()
    }


def _reason(error: tf.errors.InvalidArgumentError) -> str:
    """What the graph says of its input, without where in the graph it says so."""
    text = _NODE.sub("", error.message)
    found = _ASSERTED.search(text)
    return found[1] if found else text.strip().splitlines()[-1]
