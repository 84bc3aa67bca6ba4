"""Published recipes begin where their closed form says: `benchmarks/recipes.py` has all, this the cheap ones."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def recipes():
    sys.path.insert(0, str(BENCHMARKS))  # for its `record`
    try:
        spec = importlib.util.spec_from_file_location("benchmarks_recipes", BENCHMARKS / "recipes.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("name", ["inst_disc", "moco_v1", "rotation", "simclr"])
def test_a_published_recipe_begins_at_its_closed_form(recipes, name):
    row = recipes.beginning(f"cifar10/{name}")
    assert abs(row["measured"] - row["expected"]) <= row["tolerance"], row
