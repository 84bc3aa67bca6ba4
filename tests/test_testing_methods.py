"""What the suite says of methods that break the contract in one place, and that it sees without a traced step."""

import dataclasses

import faulty_methods
import faulty_options
import numpy as np
import pytest
from faulty_methods import spec
from heavy_options import HeavyOptions

from kzoo.errors import ConformanceError, PluginError
from kzoo.testing import MethodSubject, method_checks, spec_checks
from kzoo.testing.expected import run_check


@pytest.fixture
def subject():
    made = []

    def make(target, *args, options=None, **more):
        made.append(MethodSubject(spec(target, *args, **more), options=options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Not-A-Name"}, "Not-A-Name: the name 'Not-A-Name' is not lower_snake_case; rename it"),
        ({"summary": "two\nlines"}, "good: the summary is not one line; give its record"),
        ({"paper": ""}, "good: the record names no paper; give it authors"),
        (
            {"target": "faulty_methods:NoMethod"},
            "good: its target faulty_methods:NoMethod is no Method; let the record",
        ),
        ({"target": "faulty_methods:ObjectPretext"}, "good: pretext belongs to the object; make it a @staticmethod"),
        ({"target": "faulty_methods:ObjectChoice"}, "good: choose belongs to the object; make it a @staticmethod"),
        ({"options": faulty_options.Unbounded}, "good: the record has Unbounded, Good annotates GoodOptions; let both"),
        ({"requires": ("pixels",)}, "good: it requires pixels, which no backbone offers; require embedding"),
    ],
)
def test_records(subject, change, message):
    good = subject("Good")
    method_checks.check_record(good)
    good.setup = dataclasses.replace(good.setup, spec=dataclasses.replace(good.spec, **change))
    with pytest.raises(ConformanceError) as error:
        method_checks.check_record(good)
    assert str(error.value).startswith(message)


def test_listing_must_not_import_tensorflow(subject):
    spec_checks.check_listing(subject("Good"))
    message = r"good: importing heavy_options imports tensorflow.*; import it only in the module that .* target names"
    with pytest.raises(ConformanceError, match=message):
        spec_checks.check_listing(subject("Good", HeavyOptions))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (faulty_options.Undocumented, r"option 'secret' is not documented; give it Field\(default, description="),
        (
            faulty_options.Unbounded,
            r"option 'momentum' accepts -1000000000.0; give its Field the range",
        ),
        (faulty_options.Listed, r"option 'widths' accepts \(-1000000000, -1000000000\); give its Field the range"),
        (faulty_options.Changeable, r"option 'depths' is a list, which can be changed after it was checked; annotate"),
        (faulty_options.Unchecked, r"option 'depth' accepts -1000000000; give its Field the range"),
        (faulty_options.Open, r"unknown options are accepted; derive its options from kzoo.Options"),
        (faulty_options.Unfrozen, r"options can be changed after they were checked; derive its options from"),
        (
            faulty_options.Unwritable,
            r"its options cannot be written in a recipe and read again: .*; give them types that",
        ),
    ],
)
def test_options(subject, options, message):
    spec_checks.check_options(subject("Good"))
    with pytest.raises(ConformanceError, match=f"^good: {message}"):
        spec_checks.check_options(subject("Good", options))


# What authors of plugins got wrong: the check that tells, the method, and what it is told. Those that `FIRST` names
# are the first to fail of all checks from the first on, so that the message that an author sees names the cause.
MISTAKES = [
    ("pretext", "StatefulPretext", "pretext output 'view_1' differs between two calls with the same keys; draw with"),
    ("pretext", "SharedDraw", "pretext output 'view_0' draws the same for every example of a batch; draw with kzoo"),
    ("pretext", "SharedChoice", "pretext output 'place' draws the same for every example of a batch; draw with kzoo"),
    ("pretext", "BatchDependent", "pretext output 'view_1' of an example depends on the rest of the batch"),
    ("pretext", "ViewAfterView", "pretext output 'views' of an example depends on the rest of the batch, or stands in"),
    ("pretext", "EqualViews", "views 'view_0' and 'view_1' are equal; fold another name into `seed` for each view"),
    ("pretext", "OddAxis", r"pretext output 'mean' has shape \[1\] for 8 examples; its first axis must be the batch"),
    ("pretext", "InfinitePretext", "pretext output 'view_1' is not finite; look for divisions by zero"),
    ("pretext", "NestedPretext", "pretext returns something else than a dict of tensors; return {name: tensor}"),
    ("pretext", "Uint8Views", "pretext output 'view_0' is a picture of type uint8; views are float32"),
    ("step", "VectorLoss", r"the step's figure 'loss' has shape \[16\]; let loss return one number for each"),
    ("step", "DeafInTraining", "in a training step the backbone is not told that it trains; pass `training` on"),
    ("step", "AlwaysTraining", "asked about held-out examples, the backbone is told that it trains; pass `training`"),
    ("step", "OwnVariable", "self.steps_made is a tf.Variable, which no checkpoint holds; make it a weight of a layer"),
    ("mean", "SummedLoss", "of each example 4 times the loss is 4 times as large: it is a sum, not a mean; return the"),
    (
        "mean",
        "SummedContrast",
        "of each example 4 times the loss is .* times as large: it is a sum, not a mean; return",
    ),
    (
        "gradients",
        "TaughtTeacher",
        "an optimizer updates .* of EMATeacher 'teacher'; give minimise only what the paper",
    ),
    ("gradients", "Unused", "spare/(kernel|bias) gets no gradient; let the loss depend on it; a teacher belongs in"),
    ("gradients", "Severed", "the gradient of bonus/(kernel|bias) is 0 in every step; let the loss depend on it"),
    (
        "gradients",
        "TwoOwners",
        "projector/kernel is trained by gradient and also assigned to; a variable has one owner",
    ),
    ("gradients", "Ungrouped", "projector/kernel is trainable and in no optimizer group; add it to optimizer_groups"),
    (
        "gradients",
        "Undeclared",
        "an optimizer updates .*extra, which no group declares; declare it in optimizer_groups",
    ),
    ("accumulate", "HalfQueue", "with accumulate: 2, 8 rows of .*keys.* change; of the whole batch 16; remember what"),
    (
        "least_examples",
        "Pairwise",
        "of a batch of 1 the encoder learns nothing: the loss is -?0, its gradient 0; if the",
    ),
    ("precision", "Overflowing", "in mixed_float16 loss is not finite; compute it with kzoo.losses.full_precision"),
    ("export", "OtherAnswer", "its export returns something else than the method; let call return"),
]
FIRST = ("record", "options", "pretext", "step", "mean")  # listing too, which has a process of its own


@pytest.mark.parametrize(("check", "target", "message"), MISTAKES, ids=[target for _, target, _ in MISTAKES])
def test_a_mistake_is_told_by_its_cause(subject, check, target, message):
    faulty = subject(target)
    for earlier in FIRST[: FIRST.index(check)] if check in FIRST else ():
        getattr(method_checks, f"check_{earlier}")(faulty)
    with pytest.raises(ConformanceError, match=f"^{target.lower()}: {message}"):
        getattr(method_checks, f"check_{check}")(faulty)


def test_what_decides_which_cause_is_named_first():
    names = [check.__name__.removeprefix("check_") for check in method_checks.METHOD_CHECKS]
    assert [name for name in names if name in FIRST] == list(FIRST)
    assert names.index("mean") < min(names.index(name) for name in ("training", "gradients", "loss", "replicas"))


def test_the_good_one_passes_what_is_asked_of_a_step(subject):
    good = subject("Good")
    for check in ("step", "mean", "accumulate"):
        getattr(method_checks, f"check_{check}")(good)
    method_checks.check_mean(subject("Pairwise"))  # a mean over comparisons grows, and by a logarithm


def test_a_pretext_without_randomness_is_one_too(subject, monkeypatch):
    method_checks.check_pretext(subject("Good"))
    monkeypatch.setattr(faulty_methods, "view", lambda images, seed: images)
    method_checks.check_pretext(subject("Good"))


def test_sizes(subject):
    with pytest.raises(ConformanceError, match=r"fixedsize: image of \[64, 64, 1\]: .*; take sizes from the batch"):
        method_checks.check_sizes(subject("FixedSize"))
    with pytest.raises(ConformanceError, match=r"fixedsize: image of \[64, 64, 3\]: "):
        method_checks.check_sizes(subject("FixedSize", channels=(3,)))


def test_a_modality_without_examples_is_named(subject):
    with pytest.raises(PluginError, match=r"unknown modality 'smell'; `kzoo list modalities` names those installed"):
        method_checks.check_pretext(subject("Good", modality="smell"))


def test_a_loss_of_comparisons_that_a_batch_of_one_makes_zero(subject):
    message = (
        r"pairwise: of a batch of 1 the encoder learns nothing: the loss is -?0, its gradient 0; if the loss compares"
    )
    with pytest.raises(ConformanceError, match=message):
        method_checks.check_least_examples(subject("Pairwise"))
    for sound in (subject("PairwiseAndSaysSo", least_examples=2), subject("Good")):
        before = [np.array(variable) for variable in sound.eager.method.variables]
        method_checks.check_least_examples(sound)
        for variable, value in zip(sound.eager.method.variables, before, strict=True):
            np.testing.assert_array_equal(variable, value)  # other checks go on from here


def test_a_record_that_says_another_least_number_of_examples(subject):
    with pytest.raises(ConformanceError, match="has least_examples=1, PairwiseAndSaysSo has 2; let both say the same"):
        method_checks.check_record(subject("PairwiseAndSaysSo"))


def test_an_expected_failure_is_shown_so_and_must_fail(subject):
    known = {"step": "its loss is a vector on purpose"}
    assert run_check(method_checks.check_step, subject("VectorLoss", expected_failures=known)) == known["step"]
    with pytest.raises(ConformanceError, match="good: check 'step' holds, and its record says that it fails; take it"):
        run_check(method_checks.check_step, subject("Good", expected_failures=known))
    for failures, message in (
        ({"stepp": "?"}, "expected_failures names 'stepp', which is no check; known: record, "),
        ({"step": ""}, "expected_failures says of 'step' no reason; say in a few words"),
    ):
        with pytest.raises(ConformanceError, match=f"good: {message}"):
            method_checks.check_record(subject("Good", expected_failures=failures))
