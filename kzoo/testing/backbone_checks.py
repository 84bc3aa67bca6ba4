"""What every backbone must be and do. Each check is a function of a subject that raises ConformanceError."""

import re
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from kzoo import registry
from kzoo.errors import ExportError
from kzoo.export import export_backbone
from kzoo.testing.spec_checks import check_listing, check_name, check_options
from kzoo.testing.subjects import BackboneSubject, precision

TOLERANCE = 1e-4  # of float32 outputs, absolute and relative: batches of another size round otherwise
_RANKS = {"embedding": 2, "tokens": 3}


def check_record(subject: BackboneSubject) -> None:
    """The record names a function, and outputs that have a meaning."""
    check_name(subject)
    spec = subject.setup.spec
    if not callable(registry.resolve(spec)):
        raise subject.fault(
            f"its target {spec.target} is no function", "name a function (input_shape, options) -> model"
        )
    if "embedding" not in spec.offers:
        raise subject.fault("it does not offer 'embedding'", "every backbone does: name it in offers, and return it")
    if unknown := [name for name in spec.offers if not re.fullmatch(r"embedding|tokens|map(_\d+)?", name)]:
        raise subject.fault(f"it offers {', '.join(unknown)}", "outputs are embedding, tokens, map, map_1, map_2, ...")


def check_outputs(subject: BackboneSubject) -> None:
    """A Functional model with the outputs that its record offers, of the shapes it declares."""
    model, side = subject.model, subject.side
    _check_functional(subject, model)
    if model.input_shape != (None, side, side, 3):
        raise subject.fault(
            f"built for {side}x{side}x3 its input is {model.input_shape}",
            "let keras.Input have the shape that is given",
        )
    images = subject.pixels(4, side)
    outputs = model(images, training=False)
    _check_shapes(subject, model, outputs)
    for name, value in outputs.items():
        if not np.isfinite(np.asarray(value)).all():
            raise subject.fault(f"output '{name}' is not finite", "check its initial weights and its normalisation")
    if embeds_alike(outputs["embedding"]):
        raise subject.fault("different images have the same embedding", "let the embedding depend on the image")
    alone = model(images[:1], training=False)
    for name, value in outputs.items():
        if not _close(value[:1], alone[name]):
            raise subject.fault(
                f"in inference output '{name}' of an image depends on the rest of the batch",
                "pass `training` on, so that normalisation uses its moving statistics",
            )


def check_sizes(subject: BackboneSubject) -> None:
    """It can be built for its smallest images, in grey; for twice the size; for any, where its record says so."""
    spec, side = subject.setup.spec, subject.side
    with precision("mixed_bfloat16"):
        _try(subject, spec.min_size, spec.min_size, 1, "its record's min_size, in grey and mixed_bfloat16")
    if spec.any_size:
        model = _build(subject, None, None, 3, "any size, as its record says")
        for height, width in ((side, side), (side + 8, side + 16)):
            _run(subject, model, height, width, 3, "any size, as its record says")
    else:
        _try(subject, 2 * side, 2 * side, 3, "twice the size")


def check_gradients(subject: BackboneSubject) -> None:
    """A gradient reaches every weight, and nothing in training is random."""
    model = subject.model
    images = subject.pixels(4, subject.side)
    noise = np.random.default_rng(1)
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = tf.add_n(
            [tf.reduce_sum(value * noise.normal(size=value.shape).astype("float32")) for value in outputs.values()]
        )
        loss += tf.reduce_sum(tf.square(outputs["embedding"]))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        if gradient is None:
            raise subject.fault(
                f"no gradient reaches {variable.path}", "remove the weight, or let an output depend on it"
            )
        # a softmax or a normalisation takes a bias away that shifts all its inputs alike
        if len(variable.shape) > 1 and not np.any(tf.convert_to_tensor(gradient)):
            raise subject.fault(
                f"the gradient of {variable.path} is 0", "let an output depend on it, also at the start"
            )
    again = model(images, training=True)
    for name, value in outputs.items():
        if not _close(value, again[name]):
            raise subject.fault(
                f"in training output '{name}' differs between two passes over the same images",
                "switch off dropout and drop path: they draw alike on all replicas",
            )


def check_reload(subject: BackboneSubject) -> None:
    """Saved, and loaded in a fresh process, as a file or as weights, it answers the same."""
    model = subject.model
    found = subject.ask(
        "reload", "register its layers: @keras.saving.register_keras_serializable(package=...), get_config"
    )
    expected = model(subject.pixels(2, subject.side), training=False)
    for how, outputs in found.items():
        for name, value in expected.items():
            if name not in outputs or not _close(value, outputs[name]):
                raise subject.fault(
                    f"reloaded {how}, output '{name}' differs", "keep all of it in weights and in get_config"
                )


def check_export(subject: BackboneSubject) -> None:
    """Exported, and loaded with TensorFlow alone, it answers what it answers here."""
    try:
        export_backbone(subject.model, subject.folder / "exports", name="check", metadata={})
    except ExportError as error:
        raise subject.fault(f"it cannot be exported: {error}", "use layers that only compute") from None


BACKBONE_CHECKS: tuple[Callable[[BackboneSubject], None], ...] = (
    check_record,
    check_listing,
    check_options,
    check_outputs,
    check_gradients,
    check_sizes,
    check_export,
    check_reload,
)


def embeds_alike(embeddings: tf.Tensor) -> bool:
    """Whether all rows are one."""
    rows = np.asarray(embeddings, "float32")
    return _close(rows[:1], rows)


def _check_functional(subject: BackboneSubject, model: keras.Model) -> None:
    if not isinstance(model, keras.Model) or not isinstance(getattr(model, "output", None), Mapping):
        raise subject.fault("it is no Functional model with named outputs", "return keras.Model(input, {name: output})")
    offers = set(subject.setup.spec.offers)
    if missing := sorted(offers - set(model.output)):
        raise subject.fault(f"its record offers {', '.join(missing)}, the model does not", "return it, or offer less")
    if more := sorted(set(model.output) - offers):
        raise subject.fault(f"the model returns {', '.join(more)}, its record does not offer it", "name it in offers")


def _check_shapes(subject: BackboneSubject, model: keras.Model, outputs: Mapping[str, tf.Tensor]) -> None:
    for name, value in outputs.items():
        rank = _RANKS.get(name, 4)
        if value.shape.rank != rank:
            letters = {2: "[B, D]", 3: "[B, T, D]", 4: "[B, h, w, C]"}[rank]
            raise subject.fault(f"output '{name}' has shape {list(value.shape)}", f"it must be {letters}")
        declared = model.output[name].shape
        if any(known not in (None, size) for known, size in zip(declared, value.shape, strict=True)):
            raise subject.fault(
                f"output '{name}' has shape {list(value.shape)}, and declares {list(declared)}",
                "write compute_output_shape of its layers",
            )
    levels = sorted(name for name in outputs if name.startswith("map_")) + ["map"] * ("map" in outputs)
    sides = [outputs[name].shape[1] for name in levels]
    if sides != sorted(sides, reverse=True):
        raise subject.fault(
            f"the sides of {', '.join(levels)} are {', '.join(map(str, sides))}", "number maps from fine to coarse"
        )


def _build(subject: BackboneSubject, height: int | None, width: int | None, channels: int, what: str) -> keras.Model:
    try:
        model = subject.setup.build(height, width, channels)
    except Exception as error:
        raise subject.fault(_said(error, what), "take it, or say less in its record") from error
    _check_functional(subject, model)
    return model


def _run(subject: BackboneSubject, model: keras.Model, height: int, width: int, channels: int, what: str) -> None:
    images = np.random.default_rng(0).uniform(size=(2, height, width, channels)).astype("float32")
    try:
        outputs = model(images, training=True)
    except Exception as error:
        raise subject.fault(_said(error, what), "take it, or say less in its record") from error
    _check_shapes(subject, model, outputs)
    for name, value in outputs.items():
        if not np.isfinite(np.asarray(tf.cast(value, tf.float32))).all():
            raise subject.fault(f"built for {what}, output '{name}' is not finite", "normalise in float32")


def _try(subject: BackboneSubject, height: int, width: int, channels: int, what: str) -> None:
    _run(subject, _build(subject, height, width, channels, what), height, width, channels, what)


def _said(error: Exception, what: str) -> str:
    return f"built for {what}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _close(one: tf.Tensor, other: tf.Tensor) -> bool:
    return bool(np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE))
