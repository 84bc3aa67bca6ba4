"""What a method must be and do in another process: saved, resumed, compiled with XLA, on several replicas."""

import inspect
from dataclasses import replace

import numpy as np

from kzoo.testing.subjects import MethodSubject
from kzoo.testing.work import COMPILED_FROM, RESUMED, STEPS

TOLERANCE = 1e-5  # of training on replicas and with XLA, in float64
STEP_KEYS = "draw with kzoo.random from batch['seed'], keep state in weights of layers, as kzoo.state does"


def check_replicas(subject: MethodSubject) -> None:
    """Several replicas train on the same global batch as one does, and all hold the same state."""
    for count in subject.replicas:
        several = subject.ask(f"replicas_{count}", "every tensor of a batch is this replica's part of it")
        name, gap = subject.reference.trace.worst(several)
        if several.spread > 0:
            where = several.paths[int(np.argmax(several.spreads))]
            raise subject.fault(
                f"{count} replicas hold different values of {where}, by {several.spread:.2g}",
                "compute what is assigned from gathered tensors (kzoo.replicas.gather) and equal weights",
            )
        first, of_one = several.losses[0], subject.reference.trace.losses[0]
        if of_one and np.isclose(count * first, of_one, rtol=1e-6):
            raise subject.fault(
                f"on {count} replicas the loss is {count} times smaller than on one: it is a sum, not a mean",
                "return the mean over the examples given, tf.reduce_mean",
            )
        if gap > TOLERANCE:
            raise subject.fault(
                f"{count} replicas train otherwise than one: {name} differs by {gap:.2g}",
                "update with self.minimise, compare examples over replicas.gather, draw from batch['seed']",
            )


def check_reload(subject: MethodSubject) -> None:
    """Saved, and loaded in a fresh process, it is the same."""
    method = subject.eager.method
    found = subject.ask("reload", "let get_config and from_config rebuild what __init__ made")
    for name, parameter in list(inspect.signature(type(method).__init__).parameters.items())[1:]:
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and name not in method.get_config():
            raise subject.fault(f"get_config lacks '{name}', which __init__ takes", "make it an option")
    if found["options"] != method.options or found["data"] != method.data:
        raise subject.fault(
            f"reloaded, its options are {found['options']!r} and not {method.options!r}",
            "keep what Method.get_config holds",
        )
    for variable, weight in zip(method.variables, found["weights"], strict=True):
        if not np.array_equal(variable, weight):
            raise subject.fault(f"reloaded, {variable.path} has other values", "keep state in variables of layers")
    if not np.allclose(method(subject.inputs), found["answer"], atol=TOLERANCE, rtol=TOLERANCE):
        raise subject.fault("reloaded, it returns something else", "keep all that call needs in variables and options")


def check_resume(subject: MethodSubject) -> None:
    """Going on from a checkpoint, in another process, gives bit for bit what not stopping gave.

    From one at the beginning, within an epoch, between two, and at the end.
    """
    whole = subject.reference.trace
    resumed = subject.ask("resume", "keep all that a step needs in weights of layers")
    for step in RESUMED:
        joined = replace(resumed[step], losses=np.concatenate([whole.losses[:step], resumed[step].losses]))
        name, gap = whole.worst(joined)
        if gap > 0:
            raise subject.fault(f"resumed after {step} of {STEPS} steps, {name} differs by {gap:.2g}", STEP_KEYS)


def check_xla(subject: MethodSubject) -> None:
    """Steps that XLA compiles, as it does on one accelerator, train as others; or the record says that it cannot."""
    if not subject.setup.spec.xla:
        return
    compiled = subject.ask(
        "xla", "use what XLA has kernels for, or set xla=False on the class and in its record: auto then means off"
    )
    whole = subject.reference.trace
    joined = replace(compiled, losses=np.concatenate([whole.losses[:COMPILED_FROM], compiled.losses]))
    name, gap = whole.worst(joined)
    if gap > TOLERANCE:
        raise subject.fault(f"compiled with XLA, {name} differs by {gap:.2g}", STEP_KEYS)
