"""The bundled presets: each is what its record says, and the page tells what was measured."""

import re
from pathlib import Path

import pytest

from kzoo.plugins.locate import resource
from kzoo.presets import packed
from kzoo.recipe.load import load
from kzoo.testing import PresetSubject, run_checks

FOLDER = Path(__file__).parents[1]
PRESETS = list(packed("kzoo_presets"))


@pytest.mark.parametrize("spec", PRESETS, ids=lambda spec: spec.name)
def test_it_is_what_its_record_says(spec):
    subject = PresetSubject(spec)
    assert [outcome.message for outcome in run_checks(subject) if not outcome.ok] == []
    subject.close()


def test_all_together_are_small():
    assert sum(path.stat().st_size for path in (FOLDER / "src").rglob("*") if path.is_file()) < 20e6


@pytest.mark.parametrize("spec", PRESETS, ids=lambda spec: spec.name)
def test_the_page_and_the_card_have_its_figures(spec):
    [row] = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith(f"| `{spec.name}`")]
    card = (FOLDER / "src/kzoo_presets/presets" / spec.name / "README.md").read_text()
    for probe, column in (("linear_probe", 4), ("knn", 5), ("low_shot", 6)):
        found = spec.figures["verdict"][probe]
        assert (
            row.split(" | ")[column - 1].strip(" |") == f"{100 * found['trained']:.1f} / {100 * found['untrained']:.1f}"
        )
        assert f"| {found['trained']:.1%} | {found['untrained']:.1%} |" in card


def test_nothing_is_told_of_the_machine_that_trained_them():
    for path in (FOLDER / "src").rglob("*"):
        if path.suffix in (".json", ".yaml", ".md"):
            assert not re.search(r"[\"' :](/home|/root|/tmp|/work|/Users)/", path.read_text()), path


@pytest.mark.parametrize("spec", PRESETS, ids=lambda spec: spec.name)
def test_its_recipe_is_sound_and_trains_what_the_record_says(spec):
    recipe = load(resource(spec.recipe))
    assert (recipe.method.name, recipe.data.name, recipe.backbone.name) == (spec.method, spec.data, spec.backbone)
    assert recipe.backbone.options == spec.backbone_options
