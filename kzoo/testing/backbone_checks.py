"""What every backbone must be and do. Each check is a function of a subject that raises ConformanceError."""

import re
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from kzoo.errors import ConformanceError, ExportError
from kzoo.export.write import export_backbone
from kzoo.plugins import registry, targets
from kzoo.testing.claim_checks import check_abilities, check_strides
from kzoo.testing.close import close
from kzoo.testing.expected import name_of, refuse_unknown
from kzoo.testing.spec_checks import check_listing, check_name, check_options
from kzoo.testing.subjects import BackboneSubject, made, outputs_in_training, precision

_RANKS = {"embedding": 2, "tokens": 3}


def check_record(subject: BackboneSubject) -> None:
    """The record names a function, and outputs that have a meaning."""
    check_name(subject)
    spec = subject.setup.spec
    if not callable(targets.resolve(spec)):
        raise subject.fault(
            f"its target {spec.target} is no function", "name a function (input_shape, options) -> model"
        )
    refuse_unknown(subject, [name_of(check) for check in BACKBONE_CHECKS])
    if "embedding" not in spec.offers:
        raise subject.fault("it does not offer 'embedding'", "every backbone does: name it in offers, and return it")
    if unknown := [name for name in spec.offers if not re.fullmatch(r"embedding|tokens|map(_\d+)?", name)]:
        raise subject.fault(f"it offers {', '.join(unknown)}", "outputs are embedding, tokens, map, map_1, map_2, ...")


def check_outputs(subject: BackboneSubject) -> None:
    """A Functional model with the outputs that its record offers, of the shapes it declares."""
    model, inputs = subject.model, subject.inputs
    _check_functional(subject, model)
    if model.input_shape != (None, *inputs.shape[1:]):
        raise subject.fault(
            f"built for {list(inputs.shape[1:])} its input is {model.input_shape}",
            "let keras.Input have the shape that is given",
        )
    if (named := model.inputs[0].name) != (name := registry.find_modality(subject.setup.spec.modality).key):
        raise subject.fault(
            f"its input is named '{named}'", f'name it, keras.Input(input_shape, name="{name}"): clients ask by it'
        )
    outputs = model(inputs, training=False)
    _check_shapes(subject, model, outputs)
    for name, value in outputs.items():
        if not np.isfinite(np.asarray(value)).all():
            raise subject.fault(f"output '{name}' is not finite", "check its initial weights and its normalisation")
    if embeds_alike(outputs["embedding"]):
        raise subject.fault("different inputs have the same embedding", "let the embedding depend on the input")
    alone = model(inputs[:1], training=False)
    for name, value in outputs.items():
        if not close(value[:1], alone[name]):
            raise subject.fault(
                f"in inference output '{name}' of an example depends on the rest of the batch",
                "pass `training` on, so that normalisation uses its moving statistics",
            )
    made(subject.fresh)  # the other process works while the next checks do


def check_sizes(subject: BackboneSubject) -> None:
    """It can be built for its smallest examples, in grey; for twice the size; for any, where its record says so; its
    maps have the strides that its record claims.
    """
    spec, size, setup = subject.setup.spec, subject.size, subject.setup.examples
    with precision("mixed_bfloat16"):
        _run(subject, spec.min_size, (spec.min_size,), setup.other_depth, "its min_size, in grey and mixed_bfloat16")
    if spec.any_size:
        small, _, large = _run(subject, None, (size, size + 8, 2 * size), setup.depth, "any size")
    else:
        small = subject.model(subject.inputs[:2])
        [large] = _run(subject, 2 * size, (2 * size,), setup.depth, "twice the size")
    check_strides(subject, small, large, size)


def check_gradients(subject: BackboneSubject) -> None:
    """A gradient reaches every weight, and nothing in training is random."""
    model = subject.model
    inputs = subject.inputs
    noise = np.random.default_rng(1)
    with tf.GradientTape() as tape:
        outputs = outputs_in_training(model, inputs)
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
    again = outputs_in_training(model, inputs)
    for name, value in outputs.items():
        if not close(value, again[name]):
            raise subject.fault(
                f"in training output '{name}' differs between two passes over the same batch",
                "switch off dropout and drop path: they draw alike on all replicas, kzoo.layers.Dropout does not",
            )


def check_reload(subject: BackboneSubject) -> None:
    """Saved, and loaded in a fresh process, as a file or as weights, it returns the same."""
    found = subject.ask(
        "reload", "register its layers: @keras.saving.register_keras_serializable(package=...), get_config"
    )
    for how, outputs in found.items():
        for name, value in subject.saved.items():
            if name not in outputs or not close(value, outputs[name]):
                raise subject.fault(
                    f"reloaded {how}, output '{name}' differs", "keep all of it in weights and in get_config"
                )


def check_export(subject: BackboneSubject) -> None:
    """Exported, and loaded with TensorFlow alone, it returns what it returns here."""
    setup = subject.setup.examples
    vocabulary = setup.source(setup.size, setup.depth).vocabulary
    try:
        export_backbone(subject.model, subject.folder / "exports", name="check", metadata={}, vocabulary=vocabulary)
    except ExportError as error:
        raise subject.fault(f"it cannot be exported: {error}", "use layers that only compute") from None


BACKBONE_CHECKS: tuple[Callable[[BackboneSubject], None], ...] = (
    check_record,
    check_listing,
    check_options,
    check_outputs,
    check_gradients,
    check_abilities,
    check_sizes,
    check_export,
    check_reload,
)


def embeds_alike(embeddings: tf.Tensor) -> bool:
    """Whether all rows are one."""
    rows = np.asarray(embeddings, "float32")
    return bool(np.ptp(rows, axis=0).max() <= 1e-6 * np.abs(rows).max())


def _check_functional(subject: BackboneSubject, model: keras.Model) -> None:
    if not isinstance(model, keras.Model) or not isinstance(getattr(model, "output", None), Mapping):
        raise subject.fault("it is no Functional model with named outputs", "return keras.Model(input, {name: output})")
    offers = set(subject.setup.spec.offers)
    if missing := sorted(offers - set(model.output)):
        raise subject.fault(f"its record offers {', '.join(missing)}, the model does not", "return it, or offer less")
    if "map_1" in offers:  # earlier maps are as many as the options say the network has stages
        offers |= {name for name in model.output if re.fullmatch(r"map_\d+", name)}
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


def _run(
    subject: BackboneSubject, size: int | None, sizes: Sequence[int], depth: int, what: str
) -> list[dict[str, tf.Tensor]]:
    """Build it for a size and call it on some: its outputs for each."""
    try:
        model = subject.setup.build(size, depth)
        _check_functional(subject, model)
        answers = [outputs_in_training(model, subject.setup.inputs(2, one, depth)) for one in sizes]
    except ConformanceError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise subject.fault(
            f"for {what}: {type(error).__name__}: {said}", "take what its record says, or say less there"
        ) from error
    for outputs in answers:
        _check_shapes(subject, model, outputs)
        for name, value in outputs.items():
            if not np.isfinite(np.asarray(tf.cast(value, tf.float32))).all():
                raise subject.fault(f"for {what}, output '{name}' is not finite", "normalise in float32")
    return answers
