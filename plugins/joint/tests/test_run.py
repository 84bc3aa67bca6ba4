"""A folder in which few images have a label, from the recipe to the export that names classes."""

import json
from io import StringIO

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from kzoo.data.labels import labels_of
from kzoo.errors import DataError
from kzoo.recipe.load import load
from kzoo.runs.build import open_sources
from kzoo.runs.plan import print_forecast
from kzoo.train.loop import train

RECIPE = """\
kzoo: 1
name: pets
data: {name: "folder:pets", labels: {share: 0.5}}
backbone: {name: convnet4, options: {width: 8}}
method: {name: s4l_rotation, options: {padding: 1}}
optimizer: {name: adam, learning_rate: 1.0e-3}
train: {epochs: 2, batch_size: 8}
evaluate: {knn: {k: 3}, linear: null, low_shot: null}
"""


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).astype("uint8")
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    for number in range(5):
        picture(place / "pets" / "cat" / f"{number}.png", number)
        picture(place / "pets" / "dog" / f"{number}.png", 100 + number)
    for number in range(16):
        picture(place / "pets" / f"{number}.png", 200 + number)
        picture(place / "flat" / f"{number}.png", number)
    return place


def recipe_in(place, text=RECIPE):
    (place / "r.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return load("r.yaml")


def test_few_labelled_in_class_folders_and_the_rest_beside_them(place):
    out = StringIO()
    console = Console(file=out, width=200)
    run = train(recipe_in(place), place / "run", False, console)
    said = out.getvalue()
    assert "train: 24: cat 4, dog 4, 16 unlabelled" in said
    assert "0.5 of each batch are labelled, 8 of 24 examples" in said
    [export] = (run.folder / "exports" / "pets").iterdir()
    images = tf.zeros((2, 16, 16, 3), tf.uint8)
    answer = tf.saved_model.load(str(export)).signatures["classify"](image=images)
    assert answer["classes"].numpy().tolist() == [[b"cat", b"dog"]] * 2
    own = json.loads(run.evaluation.read_text())["pretext"]["own"]
    assert set(own) == {"test_accuracy", "test_accuracy_4_turns"}
    assert not run.labels.exists()


def test_a_choice_is_kept_resumed_and_the_probes_see_all(place):
    recipe = recipe_in(place, RECIPE.replace("{share: 0.5}", "{per_class: 2, share: 0.5}"))
    out = StringIO()
    run = train(recipe, place / "chosen", False, Console(file=out, width=200))
    assert "2 of each class are shown to the method, chosen by seed 0" in out.getvalue()
    kept = json.loads(run.labels.read_text())
    assert {name: len(numbers) for name, numbers in kept["shown"].items()} == {"cat": 2, "dog": 2}
    probed = labels_of(open_sources(run.recipe)[0])
    assert np.bincount(probed + 1).tolist() == [16, 4, 4]
    again = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": 3})})
    train(again, place / "chosen", True, Console(file=StringIO()))
    assert json.loads(run.labels.read_text()) == kept
    kept["shown"]["cat"], kept["shown"]["dog"] = kept["shown"]["dog"], kept["shown"]["cat"]
    run.labels.write_text(json.dumps(kept))
    with pytest.raises(DataError, match=r"labels.json: names examples that .* has no such label for"):
        train(again, place / "chosen", True, Console(file=StringIO()))


def test_data_without_labels_is_refused_by_name_before_anything_is_built(place):
    recipe = recipe_in(place, RECIPE.replace("folder:pets", "folder:flat"))
    said = r"flat' has no labels, and method 's4l_rotation' learns from them"
    with pytest.raises(DataError, match=said):
        print_forecast(Console(file=StringIO()), recipe, place / "no", "kzoo train r.yaml")
    with pytest.raises(DataError, match=said):
        train(recipe, place / "no", False, Console(file=StringIO()))
    assert not (place / "no").exists()
