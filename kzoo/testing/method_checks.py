"""What every method must be and do. Each check is a function of a subject that raises ConformanceError."""

import inspect
import re
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from kzoo import state
from kzoo.data.resize import to_float
from kzoo.errors import BackboneError, ConformanceError, ExportError, StrategyError, TrainingError
from kzoo.evaluate.collapse import collapsed, effective_rank, embedding_std
from kzoo.export.saved_model import export_backbone
from kzoo.layers import every_layer
from kzoo.method import Batch, Method
from kzoo.plugins import registry
from kzoo.random import example_seeds
from kzoo.runs.pretrained import load_backbone
from kzoo.specs import ABILITIES
from kzoo.testing import examples
from kzoo.testing.expected import name_of, refuse_unknown
from kzoo.testing.fresh_checks import (
    STEP_KEYS,
    TOLERANCE,
    check_reload,
    check_replicas,
    check_resume,
    check_xla,
)
from kzoo.testing.replicas import train_on_batches
from kzoo.testing.setups import BATCH
from kzoo.testing.spec_checks import check_listing, check_name, check_options
from kzoo.testing.step_checks import check_accumulate, check_step
from kzoo.testing.subjects import (
    FIXED_STEPS,
    EagerSteps,
    MethodSubject,
    falls,
    kept,
    made,
    precision,
    recorded_gradients,
)
from kzoo.testing.work import STEPS, run_reference

_OUTPUTS = r"embedding|tokens|map(_\d+)?"
_RUN_STEPS = 40  # of the run that must not collapse
_KEYS = "draw with kzoo.random from the keys in `seed`, one for each example"


def check_record(subject: MethodSubject) -> None:
    """The record names a `Method` whose class annotates the same options."""
    check_name(subject)
    spec = subject.setup.spec
    found = registry.resolve(spec)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise subject.fault(f"its target {spec.target} is no Method", "let the record name a subclass of kzoo.Method")
    if found.options_class() is not spec.options:
        raise subject.fault(
            f"the record has {spec.options.__name__}, {found.__name__} annotates {found.options_class().__name__}",
            "let both name the same options",
        )
    for name in ("xla", "least_examples"):
        said, own = getattr(spec, name), getattr(found, name)
        if said != own:
            raise subject.fault(f"the record has {name}={said}, {found.__name__} has {own}", "let both say the same")
    if not spec.paper:
        raise subject.fault("the record names no paper", "give it authors, year and an identifier")
    if unknown := [name for name in spec.requires if not re.fullmatch(_OUTPUTS, name) and name not in ABILITIES]:
        raise subject.fault(
            f"it requires {', '.join(unknown)}, which no backbone offers",
            f"require embedding, map, map_<n>, tokens, {', '.join(ABILITIES)}",
        )
    refuse_unknown(subject, [name_of(check) for check in METHOD_CHECKS])
    if not isinstance(inspect.getattr_static(found, "pretext"), staticmethod):
        raise subject.fault("pretext belongs to the object", "make it a @staticmethod: it runs in the input pipeline")


def check_pretext(subject: MethodSubject) -> None:
    """The pretext is pure: the same keys give the same, other keys something else, whatever else is in the batch."""
    count, half = 8, 4
    raw = examples.raw_batch(subject.source, count)
    keys = example_seeds(0, 0, tf.range(count, dtype=tf.int64))
    once, twice = _pretext(subject, raw, keys), _pretext(subject, raw, keys)
    for name, value in once.items():
        if not value.shape.rank or value.shape[0] == 0 or value.shape[0] % count:
            raise subject.fault(
                f"pretext output '{name}' has shape {list(value.shape)} for {count} examples",
                "its first axis must be the batch or a multiple of it",
            )
        if value.shape.rank == 4 and value.shape[-1] in (1, 3) and value.dtype != tf.float32:
            raise subject.fault(
                f"pretext output '{name}' is a picture of type {value.dtype.name}",
                "views are float32 in [0, 1], as kzoo.augment makes them",
            )
        if value.dtype.is_floating and not np.isfinite(value.numpy()).all():
            raise subject.fault(f"pretext output '{name}' is not finite", "look for divisions by zero")
        if not _same(value, twice[name]):
            raise subject.fault(f"pretext output '{name}' differs between two calls with the same keys", _KEYS)

    others = _pretext(subject, raw, example_seeds(1, 0, tf.range(count, dtype=tf.int64)))
    drawn = [name for name, value in once.items() if not _same(value, others[name])]
    repeated = {name: tf.repeat(value[:1], count, axis=0) for name, value in raw.items()}
    alike = _pretext(subject, repeated, keys)
    for name in drawn:
        rows = np.split(alike[name].numpy(), count)
        if all(np.array_equal(rows[0], row) for row in rows[1:]):
            raise subject.fault(f"pretext output '{name}' draws the same for every example of a batch", _KEYS)

    part = _pretext(subject, {name: value[half:] for name, value in raw.items()}, keys[half:])
    for name, value in once.items():
        if not _same(value[len(value) // count * half :], part[name]):
            raise subject.fault(
                f"pretext output '{name}' of an example depends on the rest of the batch, or stands in another place",
                f"{_KEYS}; put what belongs to example i before what belongs to i + 1",
            )
    for name, other in _views(drawn):
        if once[name].shape == once[other].shape and _same(once[name], once[other]):
            raise subject.fault(
                f"views '{name}' and '{other}' are equal", "fold another name into `seed` for each view"
            )


def check_training(subject: MethodSubject) -> None:
    """It trains with `fit`: the losses are finite, what `chance` names is logged, the embedding has one row each."""
    try:
        reference = subject.reference
    except TrainingError as error:
        raise _diverged(subject, error) from None
    trained = {id(v) for group in reference.method.optimizer_groups().values() for v in group.variables}
    moves = zip(reference.method.variables, reference.initial, reference.trace.weights, strict=False)
    if not any(np.any(before != after) for variable, before, after in moves if id(variable) in trained):
        raise subject.fault("training changes nothing that is to be trained", "call self.minimise(batch) in train_step")
    method = subject.eager.method
    for logs in subject.eager.logs:
        if broken := [name for name, value in logs.items() if not np.isfinite(np.asarray(value)).all()]:
            raise subject.fault(
                f"in float32 {', '.join(broken)} is not finite", "look for divisions by zero and logarithms"
            )
    logged = {**subject.eager.logs[0], **method.test_step(subject.eager.batches[0])}  # held out, it may be asked more
    if silent := sorted(set(method.chance()) - set(logged)):
        raise subject.fault(f"chance names {', '.join(silent)}, which no step logs", "use the names that loss returns")
    answer = method(subject.inputs)
    if answer.shape.rank != 2 or answer.shape[0] != 4:
        raise subject.fault(
            f"called on 4 examples it returns {list(answer.shape)}", "encoder must offer embedding [B, D]"
        )
    made(subject.fresh)  # the other process works while the next checks do


def check_gradients(subject: MethodSubject) -> None:
    """Exactly the declared variables get a gradient, and nothing else moves them: no teacher, queue or bank."""
    steps = subject.eager
    method = steps.method
    groups = method.optimizer_groups().values()
    declared = {id(variable): variable.path for group in groups for variable in group.variables}
    paths = {id(variable): variable.path for variable in method.variables}
    for variable in method.trainable_variables:
        if id(variable) not in declared:
            raise subject.fault(
                f"{variable.path} is trainable and in no optimizer group",
                "add it to optimizer_groups, or set its `trainable` to False",
            )
    memories = (state.EMATeacher, state.Queue, state.MemoryBank)
    for layer in every_layer(method):
        if isinstance(layer, memories) and (touched := [v for v in layer.variables if id(v) in steps.applied]):
            raise subject.fault(
                f"an optimizer updates {touched[0].path} of {type(layer).__name__} '{layer.name}'",
                "give minimise only what the paper trains by gradient",
            )
    if more := [paths.get(one, "a foreign variable") for one in steps.applied if one not in declared]:
        raise subject.fault(
            f"an optimizer updates {more[0]}, which no group declares", "declare it in optimizer_groups"
        )
    for one, path in declared.items():
        size = steps.applied.get(one)
        if size is None:
            raise subject.fault(
                f"{path} gets no gradient",
                "let the loss depend on it; a teacher belongs in kzoo.state.EMATeacher, an unused layer nowhere",
            )
        if size == 0.0:
            raise subject.fault(
                f"the gradient of {path} is 0 in every step", "let the loss depend on it, and not through argmax"
            )
    _check_owners(subject, steps, declared)


def _check_owners(subject: MethodSubject, steps: EagerSteps, declared: Mapping[int, str]) -> None:
    """With a learning rate of 0 nothing that is trained by gradient moves."""
    method = steps.method
    rates = {name: float(optimizer.learning_rate) for name, optimizer in method.optimizers.items()}
    with kept(method.variables) as before:
        for optimizer in method.optimizers.values():
            optimizer.learning_rate = 0.0
        method.train_step(steps.batches[0])
        after = [np.array(variable) for variable in method.variables]
        for name, rate in rates.items():
            method.optimizers[name].learning_rate = rate
    for variable, was, now in zip(method.variables, before, after, strict=True):
        if id(variable) in declared and not np.allclose(was, now, atol=1e-5):
            raise subject.fault(
                f"{variable.path} is trained by gradient and also assigned to",
                "a variable has one owner: keep teachers in kzoo.state.EMATeacher",
            )


def check_least_examples(subject: MethodSubject) -> None:
    """The smallest batch that it does not refuse teaches the encoder something."""
    method = subject.eager.method
    encoder = _taught(method)
    whole = examples.raw_batch(subject.source, 2 * BATCH)
    if subject.setup.spec.labels:  # of examples without labels alone it need not learn
        whole = {key: value[whole["label"] >= 0] for key, value in whole.items()}
    for count in range(method.least_examples, BATCH + 1):
        raw = {key: value[:count] for key, value in whole.items()}
        with kept(method.variables), recorded_gradients() as applied:
            try:
                loss = float(method.train_step(method.transform(raw, example_seeds(0, 0, raw["id"])))["loss"])
            except StrategyError:  # it cuts its batch in parts, for one
                continue
        if not (np.isfinite(loss) and any(size for one, size in applied.items() if one in encoder)):
            raise subject.fault(
                f"of a batch of {count} the encoder learns nothing: the loss is {loss:.3g}, its gradient 0",
                "if the loss compares examples, say how many it needs: least_examples, on the class and in its record",
            )
        return


def _taught(method: Method) -> set[int]:
    """The variables that train the encoder: its own, or where it is a teacher, those that it follows."""
    followed = {
        id(ours): id(theirs)
        for layer in every_layer(method)
        if isinstance(layer, state.EMATeacher)
        for ours, theirs in layer.pairs
    }
    return {followed.get(id(variable), id(variable)) for variable in method.encoder.variables}


def check_determinism(subject: MethodSubject) -> None:
    """Training twice from the same state over the same examples gives the same numbers."""
    reference = subject.reference
    reference.reset()
    name, gap = reference.trace.worst(run_reference(reference.method, subject.eager.batches))
    if gap > 0:
        raise subject.fault(f"trained twice from the same state, {name} differs by {gap:.2g}", STEP_KEYS)


def check_loss(subject: MethodSubject) -> None:
    """On a fixed batch, with queues, banks and teachers held, the loss falls."""
    for group, figures in subject.descent.figures.items():
        if not any(falls(values) for values in figures.values()):
            seen = ", ".join(f"{name} from {values[0]:.4g} to {values[-1]:.4g}" for name, values in figures.items())
            raise subject.fault(
                f"on one fixed batch the loss of group '{group}' does not fall in {FIXED_STEPS} steps: {seen}",
                "check its sign, its gradient, and that loss returns what is minimised",
            )


def check_collapse(subject: MethodSubject) -> None:
    """After a short training the embedding still tells the examples apart."""
    reference = subject.reference
    reference.reset()
    reference.set_rate(subject.descent.rate)
    try:
        train_on_batches(reference.method, subject.eager.batches, _RUN_STEPS)
    except TrainingError as error:
        raise _diverged(subject, error) from None
    features = np.asarray(reference.method(subject.setup.inputs(examples.COUNT)))
    if collapsed(features):
        raise subject.fault(
            f"after {_RUN_STEPS} steps the embedding has collapsed (spread {embedding_std(features):.2g}, "
            f"effective rank {effective_rank(features):.2g} of {features.shape[1]})",
            "something must keep the examples apart: negatives, a predictor and stop-gradient, a variance term",
        )


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
        logs = method.train_step(method.transform(raw, example_seeds(0, 0, raw["id"])))
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


METHOD_CHECKS: tuple[Callable[[MethodSubject], None], ...] = (
    check_record,
    check_listing,
    check_options,
    check_pretext,
    check_step,
    check_training,
    check_gradients,
    check_accumulate,
    check_least_examples,
    check_determinism,
    check_loss,
    check_collapse,
    check_precision,
    check_sizes,
    check_export,
    check_reload,
    check_resume,
    check_xla,
    check_replicas,
)


def _diverged(subject: MethodSubject, error: TrainingError) -> ConformanceError:
    what = str(error).partition(": ")[2].partition(";")[0]  # without the method's name and advice on recipes
    return subject.fault(what, "lower the scale of the loss: it is a mean over examples")


def _pretext(subject: MethodSubject, raw: Batch, keys: tf.Tensor) -> Batch:
    ready = registry.resolve(subject.setup.spec).pretext(dict(raw), keys, subject.options)
    if not isinstance(ready, Mapping) or not all(tf.is_tensor(value) for value in ready.values()):
        raise subject.fault("pretext returns something else than a dict of tensors", "return {name: tensor}")
    return dict(ready)


def _same(one: tf.Tensor, other: tf.Tensor) -> bool:
    """Equal, for floats up to the rounding of vector instructions."""
    if one.shape != other.shape:
        return False
    if not one.dtype.is_floating:
        return bool(np.array_equal(one, other))
    return bool(np.allclose(one, other, rtol=1e-5, atol=1e-5))


def _views(names: list[str]) -> list[tuple[str, str]]:
    """Pairs of names that mean views of one example: "view_0" and "view_1", "query" and "key"."""
    numbered = [name for name in names if re.fullmatch(r".*\d", name)]
    pairs = [(a, b) for a in numbered for b in numbered if a < b and a.rstrip("0123456789") == b.rstrip("0123456789")]
    return pairs + [("query", "key")] * ({"query", "key"} <= set(names))
