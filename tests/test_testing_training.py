"""What the suite says of methods that go wrong in training, on replicas, in a fresh process. One traced step each."""

from dataclasses import replace

import pytest
from faulty_methods import spec

from kzoo.errors import ConformanceError
from kzoo.testing import MethodSubject, MethodSuite, method_checks
from kzoo.testing.work import COMPILED_FROM


class TestGood(MethodSuite):
    """The method that the faulty ones derive from passes."""

    @classmethod
    def make_subject(cls):
        return MethodSubject(spec("Good"))


@pytest.fixture
def subject():
    made = []

    def make(target, **more):
        made.append(MethodSubject(spec(target, **more)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("check", "target", "message"),
    [
        ("training", "NotANumber", r"the loss is nan at step \d+, .*; lower the scale of the loss"),
        ("training", "Idle", "training changes nothing that is to be trained; call self.minimise"),
        ("training", "Boastful", "chance names accuracy, which no step logs; use the names that loss returns"),
        ("determinism", "StatefulStep", r"trained twice from the same state, .* differs by .*; draw with kzoo.random"),
        (
            "loss",
            "Rising",
            r"on one fixed batch the loss of group 'main' does not fall in 20 steps: loss from .* to .*",
        ),
        ("collapse", "Collapsing", r"after 40 steps the embedding has collapsed \(spread 0.*; something must keep"),
    ],
)
def test_training(subject, check, target, message):
    faulty = subject(target)
    with pytest.raises(ConformanceError, match=f"{target.lower()}: {message}"):
        getattr(method_checks, f"check_{check}")(faulty)


def test_gradients_that_are_summed_over_the_replicas(subject):
    message = r"naivemean: 2 replicas train otherwise than one: .* differs by .*; update with self.minimise"
    with pytest.raises(ConformanceError, match=message):
        method_checks.check_replicas(subject("NaiveMean"))


def test_a_loss_that_is_summed_over_the_examples(subject):
    message = "summedloss: on 2 replicas the loss is 2 times smaller than on one: it is a sum, not a mean; return the"
    with pytest.raises(ConformanceError, match=message):
        method_checks.check_replicas(subject("SummedLoss"))


def test_a_queue_of_each_replicas_own_keys(subject):
    message = (
        r"ownqueue: 2 replicas hold different values of queue.*/keys, by .*; compute what is assigned from gathered"
    )
    with pytest.raises(ConformanceError, match=message):
        method_checks.check_replicas(subject("OwnQueue"))


def test_what_a_fresh_process_cannot_know(subject):
    forgetful = subject("Forgetful")
    with pytest.raises(ConformanceError, match="forgetful: get_config lacks 'bonus', which __init__ takes; make it an"):
        method_checks.check_reload(forgetful)
    message = r"forgetful: resumed after 5 of 10 steps, .* differs by .*; draw with .*, keep state in weights of layers"
    with pytest.raises(ConformanceError, match=message):
        method_checks.check_resume(forgetful)


def test_a_step_that_xla_cannot_compile(subject):
    message = r"nokernel: .*XLA cannot compile its step: it has no kernel for LogMatrixDeterminant.*; use what XLA has"
    with pytest.raises(ConformanceError, match=message):
        method_checks.check_xla(subject("NoKernel"))


def test_a_method_that_says_that_xla_cannot_compile_it_is_not_asked_to(subject):
    method_checks.check_xla(subject("NoKernelAndSaysSo", xla=False))
    with pytest.raises(ConformanceError, match="the record has xla=True, NoKernelAndSaysSo has False; let both say"):
        method_checks.check_record(subject("NoKernelAndSaysSo"))


def test_a_compiled_step_that_trains_otherwise(subject, monkeypatch):
    good = subject("Good")
    whole = good.reference.trace
    late = replace(whole, losses=whole.losses[COMPILED_FROM:])
    monkeypatch.setattr(good, "ask", lambda part, remedy: late)
    method_checks.check_xla(good)
    monkeypatch.setattr(good, "ask", lambda part, remedy: replace(late, losses=late.losses * 1.001))
    with pytest.raises(ConformanceError, match=r"good: compiled with XLA, the loss differs by 0\.0\d+; draw with"):
        method_checks.check_xla(good)
