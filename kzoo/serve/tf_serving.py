"""TF Serving's REST interface: https://www.tensorflow.org/tfx/serving/api_rest"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kzoo.serve.model import DEFAULT, Model
from kzoo.serve.refusal import Refusal, shown
from kzoo.serve.tensors import BYTES, Tensor, as_json, from_nested
from kzoo.serve.versions import Versions


def predict(model: Model, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request in rows (`instances`) or in columns (`inputs`). Raises Refusal."""
    signature = request.get("signature_name") or DEFAULT
    if not isinstance(signature, str):
        raise Refusal(400, f"signature_name: expected text. Received: {shown(signature)}")
    tensors = model.takes(signature)
    if ("instances" in request) == ("inputs" in request):
        raise Refusal(400, 'expected either "instances" (rows) or "inputs" (columns)')
    if "instances" in request:
        outputs = model.answer(signature, _rows(request["instances"], tensors))
        return {"predictions": _as_rows(outputs)}
    outputs = model.answer(signature, _columns(request["inputs"], tensors))
    written = {name: as_json(array, name) for name, array in outputs.items()}
    return {"outputs": _alone(written)}


def status(versions: Versions, only: str | None = None) -> dict[str, Any]:
    """What is served, and what was found that cannot be."""
    chosen = {number: why for number, why in versions.states.copy().items() if only in (None, str(number))}
    if not chosen:
        raise Refusal(404, f"version {shown(only)} is not served; {versions.current.version} is")
    return {
        "model_version_status": [
            {
                "version": str(number),
                "state": "END" if why else "AVAILABLE",
                "status": {"error_code": "FAILED_PRECONDITION" if why else "OK", "error_message": why},
            }
            for number, why in sorted(chosen.items(), reverse=True)
        ]
    }


def metadata(name: str, model: Model) -> dict[str, Any]:
    """The signatures as the SavedModel declares them."""
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": model.signature_def}},
    }


def _rows(instances: Any, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """One example after the other: the values of the only input, or objects with a value for each."""
    if not isinstance(instances, list):
        raise Refusal(400, f"instances: expected a list. Received: {shown(instances)}")
    if instances and all(isinstance(row, dict) and row.keys() == tensors.keys() for row in instances):
        columns = {name: [row[name] for row in instances] for name in tensors}
        return {name: from_nested(columns[name], tensor, f"instances.{name}") for name, tensor in tensors.items()}
    if len(tensors) == 1:
        [[name, tensor]] = tensors.items()
        if tensor.dtype == BYTES or not any(isinstance(row, dict) for row in instances):
            return {name: from_nested(instances, tensor, "instances")}
    wrong = next((row for row in instances if not isinstance(row, dict) or row.keys() != tensors.keys()), instances)
    raise Refusal(400, f"instances: expected objects with {', '.join(tensors)}. Received: {shown(wrong)}")


def _columns(inputs: Any, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """All examples at once: the only input, or an object with each."""
    if not isinstance(inputs, dict):
        if len(tensors) > 1:
            raise Refusal(400, f"inputs: expected an object with {', '.join(tensors)}. Received: {shown(inputs)}")
        inputs = dict.fromkeys(tensors, inputs)
    if inputs.keys() != tensors.keys():
        raise Refusal(400, f"inputs: expected an object with {', '.join(tensors)}. Received: {shown(sorted(inputs))}")
    return {name: from_nested(inputs[name], tensor, f"inputs.{name}") for name, tensor in tensors.items()}


def _as_rows(outputs: Mapping[str, np.ndarray]) -> Any:
    written = {name: as_json(array, name) for name, array in outputs.items()}
    if len(written) == 1:
        return _alone(written)
    return [dict(zip(written, row, strict=True)) for row in zip(*written.values(), strict=True)]


def _alone(written: Mapping[str, Any]) -> Any:
    return next(iter(written.values())) if len(written) == 1 else written
