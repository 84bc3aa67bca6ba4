"""The SavedModel of an export: TensorFlow alone loads it and answers with it.

The graph is traced from functions over the variables that they read, the backbone's and, for what a method returns
besides, those of its heads: no Keras object, optimizer or teacher is in it, and `check_ops` proves that it can only
compute (a SavedModel is a program: it may carry operations that write files).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.errors import ExportError
from kzoo.export.check_ops import check_ops
from kzoo.export.clean import relative_error
from kzoo.export.formats import Exportable
from kzoo.export.signature import as_float32
from kzoo.modality import Served, Signature

TOLERANCE = 1e-5
_ROUNDINGS = 10


def write_saved_model(exportable: Exportable, file: Path) -> dict[str, Any]:
    """Write it into the folder of `file`, and check it: `check_ops`, `self_check`.

    Returns what the modality's own check found, and the largest relative error of an embedding.
    Raises ExportError where the graph could do more than compute, or does not return what the backbone returns.
    """
    folder, served = file.parent, exportable.served
    _write(folder, served.functions)
    check_ops(folder)
    parity = self_check(folder, exportable.backbone, served, exportable.further)
    received = tf.saved_model.load(str(folder)).signatures["serving_default"](
        **{exportable.takes.name: tf.constant(served.samples)}
    )
    error = relative_error(received["embedding"].numpy(), recorded_answers(exportable.backbone, served))
    return {"largest_error": error, **({"parity": parity} if parity else {})}


def recorded_answers(backbone: keras.Model, served: Served) -> np.ndarray:
    """What the backbone returns for the samples, float32 `[n,D]`."""
    return _as_numbers({"embedding": backbone(served.takes(served.samples), training=False)["embedding"]})["embedding"]


def self_check(
    path: Path, backbone: keras.Model, served: Served, further: Mapping[str, Signature] | None = None
) -> dict[str, Any]:
    """Load the export with TensorFlow and compare its embeddings with the backbone's, in batches of one and of three,
    and what further signatures return with those of the functions they were made from; then in the modality's own
    way: of images, files of each kind (`kzoo.export.parity`).

    Returns what the modality's own way found; {} where it has none.

    Raises:
        ExportError: an answer is not a number, or differs by more than `TOLERANCE` (absolute, or relative to the
            largest value above 1) and more than rounding explains: `_ROUNDINGS` times what the backbone's own outputs
            differ, for one example between these batches, and for pixels that differ in their last bit.
    """
    signatures = tf.saved_model.load(str(path)).signatures

    def embed(inputs: Any) -> dict[str, tf.Tensor]:
        return {"embedding": backbone(inputs, training=False)["embedding"]}

    for name, answer in {"serving_default": embed, **(further or {})}.items():
        if fault := _difference(name, signatures[name], answer, served):
            raise ExportError(f"{path}: {fault}; do not serve it")
    if served.parity is None:
        return {}
    try:
        return served.parity(signatures, lambda inputs: _as_numbers(embed(inputs))["embedding"])
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from None


def _difference(name: str, loaded: Any, answer: Signature, served: Served) -> str:
    """By how much a loaded signature's outputs differ more than they may, in words; "" where it does not."""
    [key] = loaded.structured_input_signature[1]
    whose = "the backbone" if name == "serving_default" else f"the method's {name!r}"
    batches = served.samples[:1], served.samples[:3]
    inputs = [served.takes(batch) for batch in batches]
    expected = one, three = [_as_numbers(answer(each)) for each in inputs]
    blurred = _as_numbers(answer(served.blurred(inputs[1]))) if served.blurred else three
    for batch, rights in zip(batches, expected, strict=True):
        received = _as_numbers(loaded(**{key: tf.constant(batch)}))
        for output, right in rights.items():
            if right.dtype.kind != "f":  # names and counts
                difference, allowed = float(not np.array_equal(received[output], right)), 0.0
            else:
                # what a batch of another size changes, and how far the network carries the last bit of what it takes
                others = (one[output], three[output][:1]), (blurred[output], three[output])
                rounding = max(float(np.max(np.abs(a - b))) for a, b in others)
                difference = float(np.max(np.abs(received[output] - right)))
                allowed = max(TOLERANCE * max(1.0, float(np.max(np.abs(right)))), _ROUNDINGS * rounding)
            if not difference <= allowed:  # also for NaN
                return (
                    f"for a batch of {len(batch)} the export differs from {whose} by {difference:.2g}, more than "
                    f"{allowed:.2g}"
                )
    return ""


def _as_numbers(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {key: np.asarray(value) for key, value in as_float32("", outputs).items()}


def _write(folder: Path, functions: Mapping[str, Any]) -> None:
    """The SavedModel of the traced functions."""
    module = tf.Module()
    # Only what the outputs need. A set of variables has no order of its own: sorting makes exports comparable.
    captured = {id(variable): variable for function in functions.values() for variable in function.variables}
    module.parameters = sorted(captured.values(), key=lambda variable: variable.name)
    tf.saved_model.save(module, str(folder), signatures=functions)
