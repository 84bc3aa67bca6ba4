"""`kzoo finetune`, `kzoo evaluate --set`, and the probe while training."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import kzoo
from kzoo.cli.app import main
from kzoo.errors import BackboneError, DataError, PluginError, RecipeError
from kzoo.recipe.load import load
from kzoo.recipe.schema import changes
from kzoo.runs.board import settings
from kzoo.train.probe import Figures
from kzoo.use.finetune import Wanted, _Found, _verdict, table, trainings

RECIPE = """\
kzoo: 1
name: tiny
data: {name: digits, options: {limit: 64}}
backbone: {name: convnet4, options: {width: 8}}
method: {name: rotation, options: {padding: 0}}
optimizer: {name: adam, learning_rate: 1.0e-3}
train: {epochs: 3, steps_per_epoch: 1, batch_size: 32}
evaluate: {knn: {k: 3}, linear: null, low_shot: null, data: {name: digits, split: test, options: {limit: 50}}}
export: {formats: []}
"""
FEW = ["--steps", "2", "--set", "data.options.limit=64"]
FEW += ["--set", "evaluate.data={name: digits, split: test, options: {limit: 50}}", "--set", "evaluate.linear=null"]


def call(*arguments) -> int:
    try:
        main(list(map(str, arguments)))
    except SystemExit as left:
        return left.code or 0
    return 0


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Two runs of one recipe: "run", and "probed", which asks the nearest neighbours every second epoch."""
    place = tmp_path_factory.mktemp("place")
    (place / "r.yaml").write_text(RECIPE)
    assert call("train", place / "r.yaml", "--run-dir", place / "run") == 0
    assert call("train", place / "r.yaml", "--run-dir", place / "probed", "--set", "evaluate.every=2") == 0
    return place


def folder(place: Path, *names: str) -> str:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 20, 3), len(name) * 7, np.uint8)).save(place / name)
    return f"folder:{place}"


# ---- the recipes ----------------------------------------------------------------------------------------------------


def test_the_recipes_differ_in_the_weights_they_begin_with_and_in_nothing_else(place):
    tuned, scratch = trainings(Wanted(str(place / "run"), "digits", layer_decay=0.7), "beside", [], None)
    assert tuned.recipe.init_from == str(place / "run")
    assert tuned.recipe.backbone.options["width"] == 8
    assert (tuned.folder, scratch.folder) == (
        Path("runs/digits-finetuned"),
        Path("runs/digits-finetuned-from-scratch"),
    )
    lines = changes(tuned.recipe.model_dump(mode="json"), scratch.recipe.model_dump(mode="json"))
    assert {line.partition(":")[0] for line in lines} == {
        "name",
        "init_from",
        "method.options.layer_decay",
        "export.formats",
    }


def test_what_the_command_is_given_is_in_the_recipe(place):
    wanted = Wanted(str(place / "run"), "digits", head_only=True, labels_per_class=10, steps=51)
    [tuned] = trainings(wanted, "no", ["train.batch_size=8"], place / "x")
    recipe = tuned.recipe
    assert tuned.folder == place / "x"
    assert recipe.method.options["backbone_rate"] == 0
    assert recipe.data.labels.per_class == 10
    assert recipe.data.labels.share == 1
    assert recipe.train.epochs * recipe.train.steps_per_epoch == 51
    assert recipe.train.batch_size == 8
    [only] = trainings(wanted, "only", [], None)
    assert only.recipe.init_from is None
    assert only.recipe.method.options["backbone_rate"] == 1
    assert only.recipe.export.formats == ("saved_model",)


def test_images_come_in_the_size_that_the_backbone_was_trained_on(place, tmp_path):
    data = folder(tmp_path, *(f"{label}/{n}.png" for label in ("a", "b") for n in range(10)))
    [tuned] = trainings(Wanted(str(place / "run"), data), "no", [], None)
    assert tuned.recipe.data.options["size"] == 28
    assert tuned.recipe.train.batch_size == 16  # the train split holds no more
    [same] = trainings(Wanted(str(place / "run"), "digits"), "no", [], None)
    assert same.recipe.method.options["size"] is None


def test_what_cannot_be_trained_is_told_with_the_remedy(place, tmp_path):
    run = str(place / "run")
    with pytest.raises(RecipeError, match="--head-only"):
        trainings(Wanted(run, "digits", head_only=True, layer_decay=0.5), "no", [], None)
    with pytest.raises(BackboneError, match="no such folder"):
        trainings(Wanted(str(tmp_path / "none"), "digits"), "no", [], None)
    with pytest.raises(DataError, match=r"has no labels.*a folder for each class"):
        trainings(Wanted(run, folder(tmp_path / "flat", *(f"{n}.png" for n in range(9)))), "no", [], None)
    splits = [f"{split}/{label}/{n}.png" for split in ("train", "val") for label in "ab" for n in range(3)]
    data = folder(tmp_path / "splits", *splits)
    with pytest.raises(DataError, match=r"has no split test.*--set 'evaluate.data="):
        trainings(Wanted(run, data), "no", [], None)
    colour = shutil.copytree(place / "run", tmp_path / "colour")
    record = json.loads((colour / "kzoo.json").read_text())
    (colour / "kzoo.json").write_text(json.dumps({**record, "input": {"shape": [28, 28, 3]}}))
    with pytest.raises(DataError, match=r"digits: its images are grey, .*colour takes colour"):
        trainings(Wanted(str(colour), "digits"), "no", [], None)
    asked = f"evaluate.data={{name: '{data}', split: val, options: {{size: 28}}}}"
    assert trainings(Wanted(run, data), "no", [asked], None)[0].recipe.evaluate.data.split == "val"


def test_a_method_that_is_not_installed_is_told_with_its_distribution(zoo):
    with pytest.raises(PluginError, match=r"unknown method 'supervised'.*pip install kzoo-joint"):
        trainings(Wanted("run", "digits"), "no", [], None)


def test_the_plan_is_told_without_tensorflow(place):
    code = "import sys; from kzoo.cli.app import main\ntry: main(sys.argv[1:])\n"
    code += "finally: assert 'tensorflow' not in sys.modules"
    arguments = ["finetune", str(place / "run"), "digits", "--labels-per-class", "10", "--dry-run"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=place)
    assert "nothing was run" in done.stdout, done.stderr
    assert f"kzoo finetune {place}/run digits --labels-per-class 10" in done.stdout
    assert not (place / "runs").exists()


# ---- the training ---------------------------------------------------------------------------------------------------


def test_both_are_trained_and_told_beside_each_other_and_resumed(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("finetune", place / "run", "digits", *FEW) == 0
    out = capsys.readouterr().out
    runs = [tmp_path / "runs/digits-finetuned", tmp_path / "runs/digits-finetuned-from-scratch"]
    accuracies = []
    for run in runs:
        assert [one.name for one in (run / "checkpoints").iterdir()][-1] == "step-00000002"  # equal steps
        accuracies.append(json.loads((run / "evaluation.json").read_text())["pretext"]["own"]["test_accuracy"])
    shown = out.rpartition("The classifier")[2]
    assert [f"{value:.1%}" in shown for value in accuracies] == [True, True]
    assert "from scratch" in shown
    assert "begins with" in out
    assert (runs[0] / "exports/digits-finetuned/1").is_dir()
    assert not (runs[1] / "exports").exists()
    exported = load(runs[0] / "recipe.yaml")
    assert exported.method.name == "supervised"
    assert call("finetune", place / "run", "digits", *FEW) == 1  # there is a run already
    assert "--resume" in capsys.readouterr().err
    assert call("finetune", place / "run", "digits", *FEW, "--resume") == 0
    again = capsys.readouterr().out
    assert again.count("nothing to do") == 2
    assert again.rpartition("The classifier")[2] == shown


def test_an_export_is_fine_tuned_as_its_run_is(place, tmp_path):
    assert call("export", place / "run", "--to", tmp_path / "exports") == 0
    [tuned] = trainings(Wanted(str(tmp_path / "exports/tiny"), "digits"), "no", [], None)
    assert tuned.recipe.backbone.options["width"] == 8


def test_a_gain_is_called_one_beyond_two_standard_errors_only():
    def said(tuned: float, scratch: float) -> str:
        return _verdict([_Found("a", tuned, None, 100, None), _Found("b", scratch, None, 100, None)])

    assert said(0.8, 0.5).startswith("+30.0: better than the same network from scratch at equal steps, on 100")
    assert "within noise" in said(0.8, 0.75)  # standard error of the difference: 0.059
    assert said(0.5, 0.9).startswith("-40.0: worse than")
    assert said(0.5, 0.5).startswith("+0.0: equal to")
    assert table([_Found("[a]", 0.5, 0.25, 10, 0.1)]).row_count == 2


# ---- evaluation -----------------------------------------------------------------------------------------------------


def test_a_finished_run_is_asked_otherwise_and_remembers_it(place, tmp_path, capsys):
    run = shutil.copytree(place / "run", tmp_path / "run")
    assert call("evaluate", run, "--set", "evaluate.knn.k=5", "--set", "evaluate.max_test=20") == 0
    report = json.loads((run / "evaluation.json").read_text())
    assert report["trained"]["knn"]["k"] == 5
    assert report["trained"]["test_examples"] == 20
    assert load(run / "recipe.yaml").evaluate.knn.k == 5
    capsys.readouterr()
    assert call("train", run / "recipe.yaml", "--run-dir", run, "--resume") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert call("evaluate", run, "--set", "train.epochs=9") == 2
    assert "only asked otherwise" in capsys.readouterr().err


def test_neighbours_are_asked_while_training_and_change_nothing(place):
    with (place / "probed/logs/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["knn_accuracy"]) for row in rows] == [False, True, True]  # the second, and the last
    report = json.loads((place / "probed/evaluation.json").read_text())
    assert float(rows[-1]["knn_accuracy"]) == pytest.approx(report["trained"]["knn"]["test_accuracy"])
    weights = [
        np.concatenate([w.ravel() for w in kzoo.load_backbone(place / n).get_weights()]) for n in ("run", "probed")
    ]
    np.testing.assert_array_equal(*weights)


def test_a_table_of_figures_that_is_there_keeps_its_columns(tmp_path):
    log = tmp_path / "metrics.csv"

    def epoch(number: int, sometimes: tuple[str, ...], **logs: float) -> None:
        figures = Figures(log, sometimes)
        figures.on_train_begin()
        figures.on_epoch_end(number, logs)
        figures.on_train_end()

    epoch(0, (), loss=1.0)
    epoch(1, ("knn",), loss=0.5, knn=0.9)
    header, *rows = csv.reader(log.open())
    assert "knn" not in header
    assert {len(row) for row in rows} == {len(header)}
    log.unlink()
    epoch(0, ("knn",), loss=1.0)
    epoch(1, (), loss=0.5)
    header, *rows = csv.reader(log.open())
    assert [row[header.index("knn")] for row in rows] == ["", ""]


def test_tensorboard_has_the_evaluation_the_pictures_and_the_settings(place):
    events = EventAccumulator(str(place / "probed/logs/evaluation"), {"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    assert {"evaluation/knn_trained", "evaluation/knn_untrained"} <= set(tags["tensors"])
    assert {"loss", "views"} <= set(tags["tensors"])
    assert "_hparams_/session_start_info" in str(events.summary_metadata)
    flat = settings(load(place / "r.yaml"))
    assert flat["optimizer.learning_rate"] == 1e-3
    assert flat["method.name"] == "rotation"
    curves = EventAccumulator(str(place / "probed/logs/train"), {"tensors": 0})
    curves.Reload()
    assert "epoch_knn_accuracy" in curves.Tags()["tensors"]
