"""`evaluate.train`: probes learn from a labelled set that need not be the training data."""

import json
from io import StringIO

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from kzoo.errors import DataError, RecipeError
from kzoo.evaluate import features as frozen
from kzoo.recipe.load import load
from kzoo.runs import report as reporting
from kzoo.train.loop import train

RECIPE = """\
kzoo: 1
name: tiny
data: {name: "folder:unlabelled", options: {layout: flat, size: 16}}
backbone: {name: convnet4, options: {width: 8}}
method: {name: rotation, options: {padding: 0}}
optimizer: {name: adam, learning_rate: 1.0e-3}
train: {epochs: 1, batch_size: 8}
evaluate:
  knn: {k: 3}
  low_shot: null
  train: {name: "folder:labelled", split: train, options: {size: 16}}
  data: {name: "folder:labelled", split: test, options: {size: 16}}
export: {formats: []}
"""


def pictures(folder, classes, count):
    """Dark and bright ones, so that any backbone tells the classes apart."""
    for place, label in enumerate(classes):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            rng = np.random.default_rng([place, number, len(classes)])
            pixels = rng.integers(0, 60, (16, 16, 3)) + 150 * place
            Image.fromarray(pixels.astype("uint8")).save(folder / label / f"{number}.png")


@pytest.fixture
def place(tmp_path, monkeypatch):
    pictures(tmp_path / "unlabelled", ["all"], 20)
    pictures(tmp_path / "labelled", ["dark", "light"], 20)
    (tmp_path / "r.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_probes_learn_from_the_set_that_is_named(place, monkeypatch):
    asked = []
    embed_all = frozen.embed_all

    def noting(backbone, batches, *args, **more):
        found = embed_all(backbone, batches, *args, **more)
        asked.append(len(found["embedding"]))
        return found

    monkeypatch.setattr(reporting, "embed_all", noting)
    train(load("r.yaml"), place / "run", False, Console(file=StringIO(), width=200))
    report = json.loads((place / "run" / "evaluation.json").read_text())
    assert asked == [32, 8, 32, 8]  # of the labelled set: four fifths, then the fifth that is held out
    assert report["data"]["train"] == report["data"]["test"] == f"folder:{place / 'labelled'}"
    assert report["trained"]["linear_probe"]["test_accuracy"] == 1.0  # the training data have no labels at all


def test_other_classes_than_those_tested_are_refused(place):
    pictures(place / "others", ["cat", "dog"], 5)
    recipe = load("r.yaml", ["evaluate.train.name=folder:others"])
    with pytest.raises(DataError, match=r"evaluate\.train: .*others has the classes cat, dog, and .* dark, light"):
        train(recipe, place / "run", False, Console(quiet=True))


def test_it_needs_a_split_to_test_on(place):
    with pytest.raises(RecipeError, match=r"evaluate\.data=null: missing; evaluate\.train needs"):
        load("r.yaml", ["evaluate.data=null"])


def test_its_name_and_options_are_checked_as_those_of_other_data(place):
    with pytest.raises(RecipeError, match=r"evaluate\.train\.options\.sise"):
        load("r.yaml", ["evaluate.train.options={sise: 16}"])
    recipe = load("r.yaml")
    assert recipe.evaluate.train.name == f"folder:{place / 'labelled'}"  # the same wherever the next command is typed
