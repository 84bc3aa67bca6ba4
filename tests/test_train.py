"""Whole runs from recipes, small: what they leave, how they resume, and what refuses."""

import csv
import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from kzoo.data import evaluation_batches
from kzoo.distribute.devices import make_strategy
from kzoo.errors import CheckpointError, EvaluationError, RecipeError, StrategyError
from kzoo.evaluate import embed, embedding_std
from kzoo.recipe.load import load
from kzoo.runs import checkpoint
from kzoo.runs.build import build_method, open_sources
from kzoo.runs.report import evaluate_run
from kzoo.runs.run import Run
from kzoo.train.loop import train

ROOT = Path(__file__).parents[1]
SMALL = (
    "data.options.limit=100",
    "backbone.name=convnet4",
    "train.epochs=2",
    "train.batch_size=32",
    "evaluate.data={name: digits, split: test, options: {limit: 50}}",
    "method.options.projector=[16, 8]",
    "evaluate.features=[embedding, map_2]",
)


TRAIN_ONLY = ("evaluate.knn=null", "evaluate.linear=null", "evaluate.low_shot=null", "export.formats=[]")


def recipe(*overrides):
    return load(ROOT / "recipes" / "quickstart.yaml", [*SMALL, *overrides])


def run(folder, *overrides, resume=False):
    out = StringIO()
    train(recipe(*overrides), folder, resume, Console(file=out, width=110))
    return out.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    return folder, run(folder)


def test_a_run_leaves_what_it_promises(finished):
    folder, said = finished
    for name in ("recipe.yaml", "kzoo.json", "evaluation.json", "backbone.weights.h5", "logs/metrics.csv"):
        assert (folder / name).stat().st_size > 0
    for picture in ("views", "loss", "embedding", "neighbours"):
        assert (folder / "figures" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == ["step-00000003", "step-00000006"]
    record = json.loads((folder / "kzoo.json").read_text())
    assert record["status"] == "finished"
    assert record["plugins"]["kzoo-contrastive"]
    assert load(folder / "recipe.yaml") == recipe()
    for words in ("2 epochs x 3 = 6", "learning rate", "linear probe", "untrained", str(folder)):
        assert words in said
    assert not list(folder.rglob(".*"))  # nothing half-written stays


def test_the_log_has_a_row_for_each_epoch(finished):
    rows = list(csv.DictReader((finished[0] / "logs" / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(float(row["loss"]) > 0 and float(row["images_per_second"]) > 0 for row in rows)


def test_the_export_answers_as_the_trained_backbone(finished):
    folder, _ = finished
    answer = tf.saved_model.load(str(folder / "exports" / "quickstart" / "1")).signatures["serving_default"]
    image = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype("uint8")
    embedding = answer(image=tf.constant(image))["embedding"]
    source, _ = open_sources(recipe())
    expected = Run(folder).encoder(source)(image / np.float32(255), training=False)["embedding"]
    np.testing.assert_allclose(embedding, expected, atol=1e-5)


def test_evaluating_again_finds_the_same(finished):
    folder, _ = finished
    before = json.loads((folder / "evaluation.json").read_text())
    assert evaluate_run(folder, Console(file=StringIO())) == before


def test_training_moves_the_backbone_and_the_baseline_is_its_beginning(finished):
    folder = finished[0]
    report = json.loads((folder / "evaluation.json").read_text())
    source, test = open_sources(recipe())
    encoders = {"trained": Run(folder).encoder(source), "untrained": build_method(recipe(), source).encoder}
    for title, encoder in encoders.items():
        features = embed(encoder, evaluation_batches(test, 50)).features
        assert report[title]["embedding"]["spread"] == pytest.approx(embedding_std(features), rel=1e-4)
    assert abs(report["trained"]["embedding"]["spread"] / report["untrained"]["embedding"]["spread"] - 1) > 1e-2
    assert report["trained"]["labelled_test_examples"] == 50
    assert report["data"]["held_out"]
    # maps are averaged over positions: convnet4 has 64 channels everywhere, and an earlier layer is another embedding
    early = report["other_features"]["map_2"]
    assert early["trained"]["embedding"]["width"] == report["trained"]["embedding"]["width"] == 64
    assert early["trained"]["embedding"]["spread"] != report["trained"]["embedding"]["spread"]


def test_the_pretext_is_asked_about_held_out_examples(finished):
    folder, said = finished
    held_out = json.loads((folder / "evaluation.json").read_text())["pretext"]["held_out"]
    assert 0 < held_out["loss"] < 2 * np.log(2 * 32 - 1)  # its exact value: test_report.py
    assert set(held_out) == {"loss", "accuracy"}
    assert f"{held_out['loss']:.4g}" in said


def test_the_same_recipe_gives_the_same_weights_and_resuming_too(finished, tmp_path):
    """Trained in one go; trained again for one epoch of the same schedule, killed, and resumed."""
    folder, _ = finished

    class Killed(Exception):
        pass

    saves = []
    save = checkpoint.save

    def save_then_die(*args, **kwargs):
        saves.append(save(*args, **kwargs))
        if len(saves) == 2:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", save_then_die)
        with pytest.raises(Killed):
            run(tmp_path / "killed", *TRAIN_ONLY)
    assert [path.name for path in saves] == ["step-00000000", "step-00000003"]
    source, _ = open_sources(recipe())
    baseline = [np.array(weight).tobytes() for weight in build_method(recipe(), source).encoder.trainable_weights]
    begin, later = (set(stored(path)) for path in saves)
    assert begin.issuperset(baseline)  # what is evaluated as untrained is what the training began with
    assert not later.issuperset(baseline)
    with pytest.raises(EvaluationError, match=r"stands at step 3 of 6; finish it with `kzoo train --resume`"):
        evaluate_run(tmp_path / "killed", Console(file=StringIO()))
    run(tmp_path / "killed", *TRAIN_ONLY, resume=True)
    assert weights(tmp_path / "killed") == weights(folder)
    assert len(list(csv.DictReader((tmp_path / "killed" / "logs" / "metrics.csv").open()))) == 2


def weights(folder):
    """Every array of the last checkpoint, as bytes: the whole state, optimizer slots too."""
    return stored(sorted((folder / "checkpoints").glob("step-*"))[-1])


def stored(checkpoint_folder):
    with np.load(checkpoint_folder / "state.npz") as arrays:
        return [arrays[name].tobytes() for name in arrays]


def test_a_run_is_never_overwritten(finished):
    with pytest.raises(CheckpointError, match="holds a run already; add --resume, or another --run-dir"):
        run(finished[0])


def test_another_recipe_does_not_resume(finished):
    with pytest.raises(CheckpointError, match=r"begun with another recipe \(optimizer.learning_rate: 0.5, was 0.002\)"):
        run(finished[0], "optimizer.learning_rate=0.5", resume=True)


def test_devices_that_cannot_be_had_are_refused_before_training():
    with pytest.raises(RecipeError, match=r"--set train\.devices=2: strategy single uses one device"):
        recipe("train.strategy=single", "train.devices=2")
    with pytest.raises(StrategyError, match=r"train\.batch_size: 31 does not divide over 2 replicas"):
        make_strategy("mirrored", 2, 31)
