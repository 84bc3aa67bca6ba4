"""What a method must be for those who use it: in half precision, with other images, exported."""

import keras
import numpy as np
import tensorflow as tf

from kzoo.data.resize import to_float
from kzoo.errors import BackboneError, ExportError
from kzoo.export.write import export_backbone
from kzoo.random import example_keys
from kzoo.runs.pretrained import load_backbone
from kzoo.testing import examples
from kzoo.testing.fresh_checks import TOLERANCE
from kzoo.testing.setups import BATCH
from kzoo.testing.subjects import MethodSubject, precision
from kzoo.testing.work import STEPS


def check_precision(subject: MethodSubject) -> None:
    """In bfloat16 and float16 figures and weights stay finite, and weights are kept in float32."""
    for policy in ("mixed_bfloat16", "mixed_float16"):
        with precision(policy):
            method = subject.setup.build()
        method.compile(keras.optimizers.SGD(0.01), total_steps=STEPS)
        method.begin_epoch(0)
        for _ in range(2):
            logs = method.train_step(subject.eager.batches[0])
            if broken := [name for name, value in logs.items() if not np.isfinite(np.asarray(value)).all()]:
                raise subject.fault(
                    f"in {policy} {', '.join(broken)} is not finite", "compute it with kzoo.losses.full_precision"
                )
        for variable in method.variables:
            kept = np.asarray(variable)
            if kept.dtype.kind not in "iub" and (kept.dtype != np.float32 or not np.isfinite(kept).all()):
                raise subject.fault(
                    f"in {policy} {variable.path} is {kept.dtype} and finite: {bool(np.isfinite(kept).all())}",
                    "keep weights and state in float32, finite",
                )


def check_sizes(subject: MethodSubject) -> None:
    """It takes examples of twice the size, and greyscale where its record does not say otherwise."""
    setup = subject.setup
    size, depth = 2 * setup.examples.size, setup.other_depth
    what = f"{setup.key} of {list(setup.examples.shape(size, depth))}"
    try:
        method = setup.build(size, depth)
        method.compile(keras.optimizers.SGD(0.01), total_steps=STEPS)
        method.begin_epoch(0)
        raw = examples.raw_batch(setup.source(size, depth), BATCH // 2)
        logs = method.train_step(method.transform(raw, example_keys(0, 0, raw["id"])))
        answer = method(setup.inputs(4, size, depth))
    except Exception as error:
        raise subject.fault(
            f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
            "take sizes from the batch or the backbone; name the channels it can use in its record",
        ) from error
    expected = (4, subject.eager.method(subject.inputs).shape[1])
    if not np.isfinite(np.asarray(logs["loss"])) or answer.shape != expected:
        raise subject.fault(
            f"{what}: loss {float(logs['loss']):.4g}, embedding {list(answer.shape)}",
            "take sizes from the batch or the backbone",
        )


def check_export(subject: MethodSubject) -> None:
    """The encoder and the signatures, exported and loaded with TensorFlow alone, return what the method returns."""
    method, key = subject.eager.method, subject.setup.key
    inputs = subject.inputs
    size = inputs.shape[1:3] if key == "image" else None
    try:
        path = export_backbone(
            method.encoder,
            subject.folder / "exports",
            name="check",
            size=size,
            metadata={},
            vocabulary=subject.source.vocabulary,
            signatures=method.signatures(),
        )
    except ExportError as error:
        raise subject.fault(
            f"it cannot be exported: {error}", "let encoder be a Functional model, and signatures only compute"
        ) from None
    served = tf.saved_model.load(str(path)).signatures["serving_default"](**{key: tf.constant(inputs)})["embedding"]
    if not np.allclose(served, method(inputs), atol=TOLERANCE, rtol=TOLERANCE):
        raise subject.fault(
            "its export returns something else than the method", "let call return encoder(images)['embedding']"
        )
    try:
        loaded = load_backbone(path)(to_float(inputs), training=False)["embedding"]
        fault = (
            "" if np.allclose(loaded, method(inputs), atol=TOLERANCE, rtol=TOLERANCE) else "it returns something else"
        )
    except BackboneError as error:
        fault = str(error)
    if fault:
        raise subject.fault(
            f"its encoder, saved as a Keras model and loaded: {fault}",
            "register its layers, and let get_config say all that they were made with",
        )
