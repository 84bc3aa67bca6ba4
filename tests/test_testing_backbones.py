"""What the suite says of backbones that break the contract in one place."""

import pytest
from faulty_backbones import spec
from faulty_options import WithDropout, WithPatches

from kzoo import Options
from kzoo.errors import ConformanceError
from kzoo.testing import BackboneSubject, BackboneSuite, backbone_checks


class TestGood(BackboneSuite):
    """The backbone that the faulty ones vary passes."""

    @classmethod
    def make_subject(cls):
        return BackboneSubject(spec("good", any_size=True, strides=(2, 4)))


@pytest.fixture
def subject():
    made = []

    def make(name, **more):
        made.append(BackboneSubject(spec(name, **more)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"offers": ("map",)}, "it does not offer 'embedding'; every backbone does"),
        ({"offers": ("embedding", "pixels")}, "it offers pixels; outputs are embedding, tokens, map"),
        (
            {"target": "faulty_backbones:__name__"},
            "its target faulty_backbones:__name__ is no function; name a function",
        ),
    ],
)
def test_records(subject, more, message):
    with pytest.raises(ConformanceError, match=f"good: {message}"):
        backbone_checks.check_record(subject("good", **more))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nothing", "it is no Functional model with named outputs; return keras.Model"),
        ("nameless", r"its input is named 'keras_tensor.*'; name it, keras.Input\(input_shape, name=\"image\"\)"),
        ("one_more", "the model returns tokens, its record does not offer it; name it in offers"),
        ("flat_map", r"output 'map' has shape \[8, 512\]; it must be \[B, h, w, C\]"),
        ("coarse_to_fine", "the sides of map_1, map are 8, 16; number maps from fine to coarse"),
        ("own_size", r"built for \[32, 32, 3\] its input is \(None, 16, 16, 3\); let keras.Input have the shape"),
        ("constant", "different inputs have the same embedding; let the embedding depend on the input"),
        ("infinite", "output '(embedding|map)' is not finite; check its initial weights"),
        (
            "batch_statistics",
            "in inference output '.*' of an example depends on the rest of the batch; pass `training`",
        ),
    ],
)
def test_outputs(subject, target, message):
    with pytest.raises(ConformanceError, match=f"{target}: {message}"):
        backbone_checks.check_outputs(subject(target))


def test_outputs_that_are_offered_and_missing(subject):
    with pytest.raises(
        ConformanceError, match="good: its record offers tokens, the model does not; return it, or offer"
    ):
        backbone_checks.check_outputs(subject("good", offers=("embedding", "map", "map_1", "tokens")))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("unused", "no gradient reaches ignored/kernel; remove the weight, or let an output depend on it"),
        ("severed", "the gradient of severed/kernel is 0; let an output depend on it"),
        ("dropout", "in training output '.*' differs between two passes over the same batch; switch off dropout"),
    ],
)
def test_gradients(subject, target, message):
    with pytest.raises(ConformanceError, match=f"{target}: {message}"):
        backbone_checks.check_gradients(subject(target))


BOTH = ("token_subset", "masked_tokens")


@pytest.mark.parametrize(
    ("target", "claims", "message"),
    [
        ("good", BOTH, "it claims masked_tokens, token_subset, and its graph lacks the layer; put MaskedPatches"),
        ("patched", ("tokens",), "it claims tokens; abilities are token_subset, masked_tokens, dropout"),
        (
            "patched",
            ("token_subset",),
            "it can do masked_tokens, which its record does not claim; name it",
        ),
        ("patched", (), "it can do masked_tokens, token_subset, which its record does not claim"),
        ("kept_and_not_hidden", BOTH, "it claims masked_tokens, token_subset, and its graph lacks the layer"),
        ("wrong_patch_size", BOTH, "64 patches of 4 pixels are not its tokens; give KeptPatches the patch size"),
        ("places_after", BOTH, "the answer for some patches depends on their order; let a token's position"),
        ("overlapping", BOTH, "patches that are left out have an influence; cut the patches apart"),
        ("glancing", BOTH, "hidden patches have an influence on output '.*'; let MaskedPatches alone"),
        ("unmasked", BOTH, "the vector in place of hidden patches has no influence; let MaskedPatches alone"),
    ],
)
def test_abilities(subject, target, claims, message):
    offers = ("embedding", "map", "map_1") if target == "good" else ("embedding", "tokens")
    with pytest.raises(ConformanceError, match=f"{target}: {message}"):
        backbone_checks.check_abilities(subject(target, offers=offers, abilities=claims))


@pytest.mark.parametrize(
    ("target", "options", "claims", "message"),
    [
        ("good", Options, ("dropout",), "it claims dropout, and has no such option; let the option"),
        ("good", WithDropout, (), "it has the option dropout, and does not claim it; let the option"),
        ("good", WithDropout, ("dropout",), "with dropout at 0.5 the embedding in training is not decided by the"),
        ("dropout", WithDropout, ("dropout",), "with dropout at 0.5 the embedding in training is not decided by the"),
        ("by_example", WithDropout, ("dropout",), ""),
    ],
)
def test_dropout(subject, target, options, claims, message):
    one = subject(target, options=options, abilities=claims)
    if not message:
        backbone_checks.check_abilities(one)
        return
    with pytest.raises(ConformanceError, match=f"^{target}: {message}"):
        backbone_checks.check_abilities(one)


def test_strides_that_are_others_than_claimed(subject):
    message = r"good: its record has strides=\(2, 8\), its maps have \(2, 4\); name those of map_1, map_2, ..., map"
    for any_size in (True, False):
        with pytest.raises(ConformanceError, match=message):
            backbone_checks.check_sizes(subject("good", strides=(2, 8), any_size=any_size))


def test_a_patch_size_that_is_not_the_option_s(subject):
    about = {"offers": ("embedding", "tokens"), "abilities": BOTH, "options": WithPatches}
    with pytest.raises(ConformanceError, match="patched: its option patch_size is 4, its patches have 8 pixels; give"):
        backbone_checks.check_abilities(subject("patched", **about))


def test_abilities_that_are_there(subject):
    backbone_checks.check_abilities(subject("patched", offers=("embedding", "tokens"), abilities=BOTH))
    kept = subject("kept_and_not_hidden", offers=("embedding", "tokens"), abilities=("token_subset",))
    backbone_checks.check_abilities(kept)


def test_sizes(subject):
    backbone_checks.check_sizes(subject("dense"))
    with pytest.raises(
        ConformanceError, match=r"dense: for any size: .*; take what its record says, or say less there"
    ):
        backbone_checks.check_sizes(subject("dense", any_size=True))
    backbone_checks.check_sizes(subject("large_only", min_size=16))
    with pytest.raises(
        ConformanceError, match=r"large_only: for its min_size.*: ValueError: images must have 16 pixels"
    ):
        backbone_checks.check_sizes(subject("large_only"))
    with pytest.raises(
        ConformanceError, match=r"half_infinite: for its min_size, .* is not finite; normalise in float32"
    ):
        backbone_checks.check_sizes(subject("half_infinite"))


def test_exports(subject):
    message = "talking: it cannot be exported: .*PrintV2.*; use layers that only compute"
    with pytest.raises(ConformanceError, match=message):
        backbone_checks.check_export(subject("talking"))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("lucky", "reloaded as a file, output '.*' differs; keep all of it in weights and in get_config"),
        (
            "unregistered",
            "TypeError: Could not locate class 'Unregistered'.*; register its layers: @keras.saving",
        ),
    ],
)
def test_reloading(subject, target, message):
    with pytest.raises(ConformanceError, match=f"{target}: {message}"):
        backbone_checks.check_reload(subject(target))
