"""The suite's three doors: `kzoo check`, classes for pytest, and functions. What they find is in the other files."""

import json
import re
import subprocess
import sys

import faulty_methods
import faulty_options
import numpy as np
import pytest

from kzoo.cli import app as cli
from kzoo.errors import ConformanceError, StrategyError
from kzoo.specs import DatasetSpec
from kzoo.testing import (
    BACKBONE_CHECKS,
    METHOD_CHECKS,
    BackboneSuite,
    MethodSubject,
    MethodSuite,
    Trace,
    method_checks,
    run,
    spec_checks,
    train_on_replicas,
)
from kzoo.testing.tiny import tiny_backbone


@pytest.mark.parametrize(("suite", "checks"), [(MethodSuite, METHOD_CHECKS), (BackboneSuite, BACKBONE_CHECKS)])
def test_a_suite_has_a_test_for_each_check_in_their_order(suite, checks):
    tests = [name for name in vars(suite) if name.startswith("test_")]
    assert tests == [check.__name__.replace("check_", "test_") for check in checks]
    for check, test in zip(checks, tests, strict=True):
        assert vars(suite)[test].__doc__ == check.__doc__


def test_a_suite_makes_its_subject_and_clears_it_away():
    class TestMine(MethodSuite):
        @classmethod
        def make_subject(cls):
            return MethodSubject(faulty_methods.spec("Good", faulty_options.Undocumented))

    TestMine.setup_class()
    folder = TestMine.subject.folder
    with pytest.raises(ConformanceError, match="option 'secret' is not documented"):
        TestMine().test_options()
    TestMine.teardown_class()
    assert not folder.exists()


def test_pytest_is_not_needed():
    code = "import sys; sys.modules['pytest'] = None; import kzoo.testing; print(kzoo.testing.MethodSuite.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "MethodSuite"


# ---- running one by one ----------------------------------------------------------------------------------------------


def fine(subject):
    """Finds nothing."""


def conforming(subject):
    raise subject.fault("it is wrong", "change it")


def breaking(subject):
    raise ZeroDivisionError("of a\nkind")


def test_each_check_is_told_in_a_line(monkeypatch):
    monkeypatch.setattr(run, "METHOD_CHECKS", (fine, conforming, breaking))
    subject = MethodSubject(faulty_methods.spec("Good"))
    begun = []
    outcomes = list(run.run_checks(subject, begun.append))
    assert begun == [outcome.check for outcome in outcomes] == ["fine", "conforming", "breaking"]
    assert [outcome.ok for outcome in outcomes] == [True, False, False]
    assert [outcome.message for outcome in outcomes[:2]] == ["", "good: it is wrong; change it"]
    assert re.fullmatch(r"good: ZeroDivisionError: of a kind \(.*test_testing_suites.py:\d+\)", outcomes[2].message)
    assert "Traceback" in outcomes[2].traceback
    assert not outcomes[1].traceback
    assert subject.folder.exists()
    subject.close()
    assert not subject.folder.exists()


def test_what_cannot_be_made_is_tried_once(monkeypatch):
    """A method that cannot be built fails every check that needs it, and costs its time once."""
    tries = []
    monkeypatch.setattr(faulty_methods.Good, "build_heads", lambda self: tries.append(1) or 1 / 0)
    subject = MethodSubject(faulty_methods.spec("Good"))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            method_checks.check_gradients(subject)
    assert len(tries) == 1
    subject.close()


@pytest.fixture
def check(monkeypatch, capsys, install, fake):
    """check(*words) answers exit code, standard output and error; installed are a good, a bad and a broken method."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(run, "METHOD_CHECKS", (method_checks.check_record, spec_checks.check_options))
    specs = [
        faulty_methods.spec("Good"),
        faulty_methods.spec("Good", faulty_options.Undocumented, name="bad"),
        faulty_methods.spec("Missing"),
    ]
    dataset = DatasetSpec(name="photos", target="x:y", options=faulty_options.GoodOptions, summary="Photos")
    install(fake("faulty", methods=specs, datasets=[dataset]))

    def call(*words):
        with pytest.raises(SystemExit) as left:
            cli.main(["check", *words])
        return (left.value.code, *capsys.readouterr())

    return call


def test_kzoo_check(check):
    code, output, errors = check("good")
    assert (code, errors) == (0, "")
    assert "method good" in output
    assert [line.split()[:2] for line in output.splitlines() if " ok " in line] == [["record", "ok"], ["options", "ok"]]
    assert "2 checks, 0 failed" in output


def test_kzoo_check_says_what_to_change(check):
    code, output, _ = check("bad")
    assert code == 1
    assert "bad: option 'secret' is not documented; give it Field(default, description=" in output
    code, output, _ = check("good", "bad", "--json")
    good, bad = json.loads(output)
    assert code == 1
    assert [(one["kind"], one["name"]) for one in (good, bad)] == [("method", "good"), ("method", "bad")]
    assert [one["ok"] for one in good["checks"]] == [True, True]
    assert [one["ok"] for one in bad["checks"]] == [False, False]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("goood", 3, "unknown name 'goood'; did you mean 'good'?"),
        (
            "missing",
            3,
            "'missing' of plugin 'faulty' (kzoo-faulty 1.2) cannot be imported from 'faulty_methods:Missing'",
        ),
        ("photos", 2, "'photos' is a dataset; what can be checked are methods, backbones and presets"),
    ],
)
def test_kzoo_check_of_what_is_not_there(check, name, code, message):
    left, _, errors = check(name)
    assert left == code
    assert message in errors


# ---- traces ----------------------------------------------------------------------------------------------------------


def test_the_distance_of_traces_by_hand():
    def trace(losses, *weights, spreads=(0.0, 0.0)):
        return Trace(np.array(losses), [np.array(weight) for weight in weights], ["a", "b"], list(spreads))

    one, other = trace([1.0, 2.0], [0.5, 1.0], [True]), trace([1.0, 2.5], [0.5, 0.75], [True], spreads=(0.5, 0.0))
    # of 2.5 the loss, relative to the largest value; of at most 1 the weights, absolute
    assert one.differences(other) == {"the loss": 0.2, "variable 0, a": 0.25, "variable 1, b": 0.0}
    assert one.distance(other) == 0.25
    assert one.distance(one) == 0.0
    assert one.distance(trace([1.0, np.nan], [0.5, 1.0], [True])) == np.inf
    assert (one.spread, other.spread) == (0.0, 0.5)


@pytest.mark.parametrize(("method", "as_one"), [(faulty_methods.Good, True), (faulty_methods.NaiveMean, False)])
def test_training_on_replicas_from_images(method, as_one):
    """The public function, which reads images through the input pipeline: two replicas as one."""
    images = np.random.default_rng(0).integers(0, 256, (48, 16, 16, 3)).astype("uint8")

    def train(count):
        return train_on_replicas(
            lambda: method(tiny_backbone((16, 16, 3))), count, images=images, batch_size=16, steps=4
        )

    one, two = train(1), train(2)
    assert (two.distance(one) < 1e-10) == as_one
    assert two.spread == 0
    assert len(one.losses) == 4
    assert np.ptp(one.losses) > 1e-3


def test_more_replicas_than_the_process_has_devices_are_refused():
    with pytest.raises(StrategyError, match=r"this process already uses \d+ CPU devices, not 64"):
        train_on_replicas(lambda: None, 64, images=np.zeros((64, 8, 8, 3), "uint8"), batch_size=64)


def test_conformance_errors_are_one_line():
    error = MethodSubject(faulty_methods.spec("Good")).fault("a", "b")
    assert isinstance(error, ConformanceError)
    assert (str(error), error.exit_code) == ("good: a; b", 1)
