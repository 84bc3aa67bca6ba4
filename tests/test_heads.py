"""What a method can do besides embedding: its heads are kept with the run and answer in the export."""

import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from kzoo.errors import EvaluationError
from kzoo.recipe.load import load
from kzoo.runs.build import open_sources
from kzoo.runs.report import export_run
from kzoo.runs.run import Run
from kzoo.train.loop import train

RECIPE = """\
kzoo: 1
name: tiny
data: {name: "folder:pics"}
backbone: {name: convnet4, options: {width: 8}}
method: {name: autoencoder, options: {bottleneck: 8, decoder_width: 8}}
optimizer: {name: adam, learning_rate: 1.0e-3}
train: {epochs: 1, batch_size: 8}
evaluate: {knn: null, linear: null, low_shot: null}
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    (place / "pics").mkdir()
    for number, picture in enumerate(np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3)).astype("uint8")):
        Image.fromarray(picture).save(place / "pics" / f"{number}.png")
    (place / "r.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        recipe = load("r.yaml")
    train(recipe, place / "run", False, Console(file=StringIO()))
    return place / "run"


@pytest.fixture
def run(first, tmp_path):
    return Run(Path(shutil.copytree(first, tmp_path / "run")))


def pixels():
    return np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3)).astype("uint8")


def test_the_export_answers_by_the_trained_heads(run):
    [export] = (run.folder / "exports" / "tiny").iterdir()
    served = tf.saved_model.load(str(export)).signatures["reconstruct"](image=tf.constant(pixels()))["image"]
    method = run.method(open_sources(run.recipe)[0])
    np.testing.assert_allclose(served, method.reconstruct(pixels()), atol=1e-5)
    untrained = run.encoder(open_sources(run.recipe)[0])  # builds another method, whose heads stay as drawn
    assert untrained is not method.encoder
    np.testing.assert_allclose(
        method.encoder(pixels() / np.float32(255))["embedding"],
        untrained(pixels() / np.float32(255))["embedding"],
        atol=1e-6,
    )


def test_heads_that_are_gone_or_damaged_are_made_again(run):
    source, _ = open_sources(run.recipe)
    before = run.method(source).reconstruct(pixels())
    for damage in (run.heads.unlink, lambda: run.heads.write_bytes(b"junk")):
        damage()
        out = StringIO()
        again = run.method(source, Console(file=out, width=300))
        assert "made again from" in out.getvalue()
        np.testing.assert_array_equal(again.reconstruct(pixels()), before)


def test_without_heads_and_checkpoint_the_encoder_can_still_be_had(run):
    source, _ = open_sources(run.recipe)
    run.heads.unlink()
    shutil.rmtree(run.checkpoints)
    assert run.encoder(source).output["embedding"].shape[-1] == 8
    with pytest.raises(EvaluationError, match="no checkpoint is left"):
        export_run(run.folder, ["saved_model"], None, Console(file=StringIO()))
