"""The Open Inference Protocol, version 2, over REST: https://github.com/kserve/open-inference-protocol

A protocol of one signature for each model. Here the names of the inputs say which signature is meant, or
`parameters.signature_name` does.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kzoo.serve.model import DEFAULT, Model
from kzoo.serve.refusal import Refusal, shown
from kzoo.serve.tensors import Tensor, as_json, from_flat, from_nested

_DATATYPES = {"bool": "BOOL", "string": "BYTES"}
_DATATYPES |= {f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_DATATYPES |= {f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)}


def infer(name: str, model: Model, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to an inference request. Raises Refusal."""
    sent = request.get("inputs")
    if not isinstance(sent, list) or not all(_is_named(one) for one in sent):
        raise Refusal(400, f"inputs: expected a list of tensors, each with a name. Received: {shown(sent)}")
    by_name = {one["name"]: one for one in sent}
    signature = _signature(model, request, by_name)
    tensors = model.takes(signature)
    if by_name.keys() != tensors.keys() or len(sent) != len(tensors):
        names = [one["name"] for one in sent]
        raise Refusal(400, f"inputs: signature '{signature}' takes {', '.join(tensors)}. Received: {shown(names)}")
    wanted = _wanted(request, model.outputs[signature])
    outputs = model.answer(signature, {key: _tensor(by_name[key], tensor) for key, tensor in tensors.items()})
    answer = {"model_name": name, "model_version": str(model.version), "parameters": {"signature_name": signature}}
    if isinstance(request.get("id"), str):
        answer["id"] = request["id"]
    return answer | {"outputs": [_written(key, outputs[key], model.outputs[signature][key]) for key in wanted]}


def metadata(name: str, model: Model) -> dict[str, Any]:
    """The tensors of `serving_default`, and under `parameters.signatures` those of each signature."""
    signatures = {
        key: {"inputs": _listed(model.inputs[key]), "outputs": _listed(model.outputs[key])} for key in model.inputs
    }
    return {
        "name": name,
        "versions": [str(model.version)],
        "platform": "tensorflow_savedmodel",
        **signatures[DEFAULT],
        "parameters": {"signatures": signatures},
    }


def _is_named(sent: Any) -> bool:
    return isinstance(sent, dict) and isinstance(sent.get("name"), str)


def _signature(model: Model, request: Mapping[str, Any], sent: Mapping[str, Any]) -> str:
    parameters = request.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Refusal(400, f"parameters: expected an object. Received: {shown(parameters)}")
    if "signature_name" in parameters:
        named = parameters["signature_name"]
        if not isinstance(named, str):
            raise Refusal(400, f"parameters.signature_name: expected text. Received: {shown(named)}")
        return named
    fitting = [name for name in [DEFAULT, *model.inputs] if model.inputs[name].keys() == sent.keys()]
    return fitting[0] if fitting else DEFAULT


def _tensor(sent: Mapping[str, Any], tensor: Tensor) -> np.ndarray:
    where = f"inputs.{tensor.name}"
    datatype, shape, data = sent.get("datatype"), sent.get("shape"), sent.get("data")
    if datatype != _DATATYPES[tensor.dtype]:
        raise Refusal(400, f"{where}.datatype: expected {_DATATYPES[tensor.dtype]}. Received: {shown(datatype)}")
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
        raise Refusal(400, f"{where}.shape: expected a list of whole numbers. Received: {shown(shape)}")
    if not isinstance(data, list):
        raise Refusal(400, f"{where}.data: expected a list. Received: {shown(data)}")
    if not data:
        raise Refusal(400, f"{where}.data: an empty list")
    if _is_base64(sent):
        data = [{"b64": one} if isinstance(one, str) else one for one in data]
    if len(shape) == 1 or not isinstance(data[0], list):
        return from_flat(data, tuple(shape), tensor, where)
    array = from_nested(data, tensor, where)
    if list(array.shape) != shape:
        raise Refusal(400, f"{where}.shape: the data is {list(array.shape)}. Received: {shape}")
    return array


def _is_base64(sent: Mapping[str, Any]) -> bool:
    """As MLServer's clients say it."""
    parameters = sent.get("parameters")
    return isinstance(parameters, dict) and parameters.get("content_type") == "base64"


def _wanted(request: Mapping[str, Any], outputs: Mapping[str, Tensor]) -> list[str]:
    asked = request.get("outputs")
    if asked is None:
        return list(outputs)
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise Refusal(400, f"outputs: expected a list of objects, each with a name. Received: {shown(asked)}")
    names = [one.get("name") for one in asked]
    if unknown := [name for name in names if not isinstance(name, str) or name not in outputs]:
        raise Refusal(400, f"outputs: there is {', '.join(outputs)}. Received: {shown(unknown[0])}")
    return names


def _written(name: str, array: np.ndarray, tensor: Tensor) -> dict[str, Any]:
    flat = as_json(array.reshape(-1), name)
    return {"name": name, "datatype": _DATATYPES[tensor.dtype], "shape": list(array.shape), "data": flat}


def _listed(tensors: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "datatype": _DATATYPES[tensor.dtype],
            "shape": [-1 if side is None else side for side in tensor.shape],
        }
        for name, tensor in tensors.items()
    ]
