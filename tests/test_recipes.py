"""Every recipe that comes with kzoo is sound, says what it shows and costs, and names its own command."""

import json
from pathlib import Path

import pytest

from kzoo.plugins import registry
from kzoo.recipe.load import load

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").rglob("*.yaml"))
SMALL = (
    "quickstart",
    "photos",
    "fashion_mnist",
    "python_docs",
    "clips",
    "pairs",
)  # what data that comes with packages can train


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_is_sound(path):
    recipe = load(ROOT / path)
    head = "\n".join(line for line in (ROOT / path).read_text().splitlines() if line.startswith("#"))
    assert f"kzoo train {path}" in head
    assert head.startswith("# What it shows:")
    if Path(path).parent.name not in ("recipes", *SMALL):
        assert "not run here" in head.lower()
        assert "\n# Differs from the authors' script: " in head
        assert recipe.data.name.startswith("tfds:")


def test_every_published_recipe_was_started_and_began_at_its_closed_form():
    measured = json.loads((ROOT / "benchmarks" / "results" / "recipes.json").read_text())["recipes"]
    published = {path[len("recipes/") : -len(".yaml")] for path in RECIPES if Path(path).parent.name not in SMALL}
    assert published - {"quickstart", "folder"} == set(measured)
    for name, row in measured.items():
        assert abs(row["measured"] - row["expected"]) <= row["tolerance"], name


def test_every_image_method_has_a_recipe_for_each_small_dataset():
    """Those that learn from colours alone have none for grey images."""
    for dataset, channels in (("photos", 3), ("fashion_mnist", 1)):
        trained = {load(path).method.name for path in (ROOT / "recipes" / dataset).glob("*.yaml")}
        wanted = {
            spec.name
            for spec in registry.methods()
            if spec.modality == "image" and channels in (spec.channels or (channels,))
        }
        assert trained == wanted | ({"cmc"} if channels == 1 else set())  # with other views it does without colours
