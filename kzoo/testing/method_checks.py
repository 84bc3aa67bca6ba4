"""What every method must be and do. Each check is a function of a subject that raises ConformanceError."""

import inspect
import re
from collections.abc import Callable

import numpy as np

from kzoo.errors import ConformanceError, TrainingError
from kzoo.evaluate.collapse import collapsed, effective_rank, embedding_std
from kzoo.method import Method
from kzoo.plugins import targets
from kzoo.specs import ABILITIES
from kzoo.testing import examples
from kzoo.testing.expected import name_of, refuse_unknown
from kzoo.testing.fresh_checks import STEP_KEYS, check_reload, check_replicas, check_resume, check_xla
from kzoo.testing.gradient_checks import check_gradients, check_least_examples
from kzoo.testing.pretext_checks import check_pretext
from kzoo.testing.replicas import train_on_batches
from kzoo.testing.spec_checks import check_listing, check_name, check_options
from kzoo.testing.step_checks import check_accumulate, check_mean, check_step
from kzoo.testing.subjects import FIXED_STEPS, MethodSubject, falls, made
from kzoo.testing.use_checks import check_export, check_precision, check_sizes
from kzoo.testing.work import run_reference

_OUTPUTS = r"embedding|tokens|map(_\d+)?"
_RUN_STEPS = 40  # of the run that must not collapse


def check_record(subject: MethodSubject) -> None:
    """The record names a `Method` whose class annotates the same options."""
    check_name(subject)
    spec = subject.setup.spec
    found = targets.resolve(spec)
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
    for name in ("choose", "pretext"):
        if not isinstance(inspect.getattr_static(found, name), staticmethod):
            raise subject.fault(
                f"{name} belongs to the object", "make it a @staticmethod: it runs in the input pipeline"
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


def _diverged(subject: MethodSubject, error: TrainingError) -> ConformanceError:
    what = str(error).partition(": ")[2].partition(";")[0]  # without the method's name and advice on recipes
    return subject.fault(what, "lower the scale of the loss: it is a mean over examples")


METHOD_CHECKS: tuple[Callable[[MethodSubject], None], ...] = (
    check_record,
    check_listing,
    check_options,
    check_pretext,
    check_step,
    check_mean,
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
