"""What a method trains by gradient: all that it declares, nothing else, and with the smallest batch too."""

from collections.abc import Mapping

import numpy as np

from kzoo import state
from kzoo.errors import StrategyError
from kzoo.layers import every_layer
from kzoo.method import Method
from kzoo.random import example_keys
from kzoo.testing import examples
from kzoo.testing.setups import BATCH
from kzoo.testing.subjects import EagerSteps, MethodSubject, kept, recorded_gradients


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
                loss = float(method.train_step(method.transform(raw, example_keys(0, 0, raw["id"])))["loss"])
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
