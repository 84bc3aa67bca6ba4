"""What is made from a training is believed only where it was made from that training: else refused, or made again."""

import errno
import json
import os
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from kzoo.cli.app import main
from kzoo.errors import CheckpointError, DataError, EvaluationError, RecipeError
from kzoo.folder.census import image_census
from kzoo.options import FolderOptions
from kzoo.recipe.load import load
from kzoo.recipe.schema import dump
from kzoo.runs import checkpoint
from kzoo.runs.build import open_sources
from kzoo.runs.report import evaluate_run, export_run
from kzoo.runs.run import Run
from kzoo.system.files import read_json
from kzoo.train.loop import train

RECIPE = """\
kzoo: 1
name: tiny
data: {name: "folder:pics"}
backbone: {name: convnet4, options: {width: 8}}
method: {name: rotation, options: {padding: 0}}
optimizer: {name: adam, learning_rate: 1.0e-3}
train: {epochs: 2, batch_size: 8}
evaluate: {knn: {k: 3}, linear: null, low_shot: null}
"""
STEPS = 2  # of an epoch: 16 images of 20 are trained on


def pictures(folder, seed=0):
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number in range(10):
            pixels = np.random.default_rng([seed, number, ord(label)]).integers(0, 256, (16, 16, 3)).astype("uint8")
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


def go(folder, recipe, resume=True):
    out = StringIO()
    train(recipe, folder, resume, Console(file=out, width=300))
    return out.getvalue()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run, and the folder in which its command was typed."""
    place = tmp_path_factory.mktemp("place")
    pictures(place / "pics")
    (place / "r.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        recipe = load("r.yaml")
    return SimpleNamespace(folder=place / "runs" / "tiny", place=place, said=go(place / "runs" / "tiny", recipe))


@pytest.fixture
def run(first, tmp_path):
    """A copy of the finished run."""
    return Run(Path(shutil.copytree(first.folder, tmp_path / "run")))


def encode(run):
    """The weights that evaluation and export would take, and what was said."""
    out = StringIO()
    source, _ = open_sources(run.recipe)
    return [
        weight.tobytes() for weight in run.encoder(source, Console(file=out, width=300)).get_weights()
    ], out.getvalue()


def rewrite(run, **overrides):
    """The run's own recipe, changed by hand."""
    text = (run.folder / "recipe.yaml").read_text()
    for old, new in overrides.values():
        assert old in text
        text = text.replace(old, new)
    (run.folder / "recipe.yaml").write_text(text)


def test_derived_files_say_what_they_were_made_from(first):
    run = Run(first.folder)
    made = run.record["weights"]
    assert (made["step"], made["status"]) == (2 * STEPS, "trained")
    assert made["recipe_hash"] == checkpoint.newest(run.checkpoints).recipe_hash
    assert read_json(run.evaluation)["made_from"].items() >= made.items()
    [export] = (run.folder / "exports" / "tiny").iterdir()
    assert read_json(export / "contract.json")["made_from"] == made


@pytest.mark.parametrize("damage", ["flip", "zeros", "empty", "gone", "other"])
def test_damaged_weights_are_made_again_from_the_checkpoint(run, damage):
    sound, said = encode(run)
    assert said == ""
    content = bytearray(run.weights.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 16
    run.weights.write_bytes({"zeros": bytes(len(content)), "empty": b"", "other": b"junk"}.get(damage, bytes(content)))
    if damage == "gone":
        run.weights.unlink()
    again, said = encode(run)
    assert again == sound
    assert "backbone.weights.h5: made again from" in said
    assert encode(run) == (sound, "")


def test_weights_that_a_read_only_run_cannot_have_again_are_told_in_one_line(run, monkeypatch):
    run.weights.unlink()

    def read_only(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("kzoo.runs.run.replacing", read_only)
    for action in (lambda: evaluate_run(run.folder, Console(file=StringIO())), lambda: export(run)):
        with pytest.raises(EvaluationError, match=r"run: cannot be written: Read-only.*its weights are missing or"):
            action()


def test_weights_without_any_checkpoint_are_used_while_they_are_whole(run):
    sound, _ = encode(run)
    shutil.rmtree(run.checkpoints)
    assert encode(run) == (sound, "")
    run.weights.write_bytes(run.weights.read_bytes()[:-1])
    with pytest.raises(EvaluationError, match="no trained backbone"):
        encode(run)


def test_a_run_that_goes_on_is_not_served_with_the_weights_it_had(run):
    """A finished run, resumed for 400 epochs and killed at once."""
    rewrite(run, epochs=("epochs: 2", "epochs: 400"))
    for action in (lambda: evaluate_run(run.folder, Console(file=StringIO())), lambda: export(run)):
        with pytest.raises(EvaluationError, match=r"stands at step 4 of 800; finish it with `kzoo train --resume`"):
            action()
    assert len(list((run.folder / "exports" / "tiny").iterdir())) == 1


def export(run):
    return export_run(run.folder, ["saved_model"], None, Console(file=StringIO()))


def test_a_recipe_that_was_changed_is_refused(run):
    rewrite(run, seed=("seed: 0", "seed: 1"))
    with pytest.raises(EvaluationError, match=r"recipe\.yaml: is not the recipe that this run was trained with"):
        evaluate_run(run.folder, Console(file=StringIO()))


def test_other_data_of_the_same_number_is_refused(first, run):
    """Renamed, so that the order of the examples is another: a memory bank would belong to other images."""
    pics = first.place / "pics" / "a"
    names = sorted(pics.iterdir())
    kept = {path: path.read_bytes() for path in names}
    try:
        for path, content in zip(names, reversed(kept.values()), strict=True):
            path.write_bytes(content)
        for action in (
            lambda: evaluate_run(run.folder, Console(file=StringIO())),
            lambda: export(run),
            lambda: go(run.folder, run.recipe),
        ):
            with pytest.raises(DataError, match=r"pics: holds other examples, or in another order, than when .* begun"):
                action()
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


@pytest.mark.parametrize("known_by", ["the run", "its checkpoint"])
def test_another_test_split_is_refused_where_it_is_read(first, run, known_by):
    """One image of it is another; what is trained on is not."""
    census = image_census(str(first.place / "pics"), FolderOptions())
    changed = first.place / "pics" / census.splits["test"][0].name
    kept = changed.read_bytes()
    if known_by == "its checkpoint":
        (run.folder / "kzoo.json").write_text('{"test": 7}')
    try:
        Image.new("RGB", (16, 16)).save(changed)
        for action in (
            lambda: evaluate_run(run.folder, Console(file=StringIO())),
            lambda: go(run.folder, run.recipe),
        ):
            with pytest.raises(DataError, match=r"pics, the split to test on: holds other examples, .* begun; restore"):
                action()
        assert export(run)  # asks for nothing of it
    finally:
        changed.write_bytes(kept)


def test_a_test_split_that_is_gone_is_refused_and_another_that_is_asked_for_is_not(first, run):
    train, test = open_sources(run.recipe)
    run.check_test(run.recipe, test, run.tested())
    with pytest.raises(DataError, match="has no split to test on, and had one when"):
        run.check_test(run.recipe, None, run.tested())
    other = load(run.folder / "recipe.yaml", ["evaluate.data={name: digits, split: test}"])
    run.check_test(other, train, run.tested())


def test_what_has_changed_is_told_of_the_same_folder_alone(first, run, tmp_path):
    train, _ = open_sources(run.recipe)
    fewer = {**train.census, "seen": 19}
    with pytest.raises(DataError, match=r"was begun \(seen: 19, was 20\); restore"):
        run.check_data(replace(train, census=fewer), "another")
    with pytest.raises(DataError, match=r"was begun; restore"):
        run.check_data(replace(train, census={**fewer, "folder": "/elsewhere"}), "another")


def test_a_run_means_the_same_wherever_the_command_is_typed(first, run, tmp_path, monkeypatch):
    before = read_json(run.evaluation)
    elsewhere = tmp_path / "elsewhere"
    pictures(elsewhere / "pics", seed=1)
    monkeypatch.chdir(elsewhere)
    assert run.recipe.data.name == f"folder:{first.place / 'pics'}"
    assert evaluate_run(run.folder, Console(file=StringIO())) == before
    assert load(first.place / "r.yaml").data.name == f"folder:{elsewhere / 'pics'}"


def test_a_finished_run_has_nothing_to_do_and_exports_nothing(run):
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.name != "kzoo.json"}
    said = go(run.folder, run.recipe)
    assert "nothing to do:" in said
    assert len(list((run.folder / "exports" / "tiny").iterdir())) == 1
    for path in (run.evaluation, run.weights, run.folder / "figures" / "views.png"):
        assert path.stat().st_mtime_ns == before[path]
    assert run.record["status"] == "finished"


def test_resuming_makes_only_what_is_missing(run):
    shutil.rmtree(run.folder / "exports")
    before = run.evaluation.stat().st_mtime_ns
    assert "nothing to do" not in go(run.folder, run.recipe)
    assert run.evaluation.stat().st_mtime_ns == before
    assert len(list((run.folder / "exports" / "tiny").iterdir())) == 1


@pytest.mark.parametrize("damage", ["flip", "gone", "metadata"])
def test_a_damaged_export_is_made_again(run, damage):
    [export] = (run.folder / "exports" / "tiny").iterdir()
    [variables] = export.glob("variables/*.data-*")
    if damage == "flip":
        content = bytearray(variables.read_bytes())
        content[len(content) // 2] ^= 16
        variables.write_bytes(content)
    elif damage == "gone":
        (export / "saved_model.pb").unlink()
    else:
        (export / "contract.json").write_text("{}")
    assert "nothing to do" not in go(run.folder, run.recipe)
    assert sorted(path.name for path in export.parent.iterdir()) == ["1", "2"]
    assert "nothing to do" in go(run.folder, run.recipe)


def test_fewer_epochs_than_were_made_are_refused_and_change_nothing(run):
    kept = (run.folder / "recipe.yaml").read_text()
    fewer = load(run.folder / "recipe.yaml", ["train.epochs=1"])
    with pytest.raises(RecipeError, match=r"train\.epochs: 1 makes 2 steps, .*run has made 4") as error:
        go(run.folder, fewer)
    assert error.value.exit_code == 2
    assert (run.folder / "recipe.yaml").read_text() == kept


@pytest.mark.parametrize("content", ["", '{"status": "fin', "[1, 2]", "\0\0", "7"])
def test_a_damaged_run_info_is_passed_over(run, content):
    sound, _ = encode(run)
    (run.folder / "kzoo.json").write_text(content)
    with pytest.warns(UserWarning, match=r"kzoo\.json: damaged"):
        again, _ = encode(run)
    assert again == sound
    assert run.record["weights"]["step"] == 2 * STEPS


def test_what_lies_where_a_checkpoint_should_is_passed_over(run):
    sound, _ = encode(run)
    (run.checkpoints / "step-00000099").write_text("a file")
    with pytest.warns(UserWarning, match="step-00000099: damaged checkpoint passed over"):
        assert encode(run)[0] == sound
    more = load(run.folder / "recipe.yaml", ["train.epochs=3", "evaluate.knn=null", "export.formats=[]"])
    (run.folder / "logs" / "metrics.csv").write_bytes(b"\0junk\xff,,\n1,2\n")
    with pytest.warns(UserWarning, match="damaged"):
        go(run.folder, more)
    assert run.record["weights"]["step"] == 3 * STEPS
    assert not (run.checkpoints / "step-00000099").exists()


def test_a_file_where_a_folder_should_be_is_told_in_one_line(run):
    shutil.rmtree(run.checkpoints)
    run.checkpoints.write_text("a file")
    (run.logs / "metrics.csv").unlink()
    with pytest.raises(CheckpointError, match=r"checkpoints: File exists; the run keeps something else of this name"):
        go(run.folder, run.recipe)


def test_a_damaged_evaluation_is_made_again(run):
    run.evaluation.write_text("{")
    with pytest.warns(UserWarning, match=r"evaluation\.json: damaged"):
        go(run.folder, run.recipe)
    assert read_json(run.evaluation)["made_from"]["step"] == 2 * STEPS


def test_fewer_examples_than_a_batch_train_nothing_and_leave_nothing(first, tmp_path):
    too_large = load(first.folder / "recipe.yaml", ["train.batch_size=17"])
    with pytest.raises(RecipeError, match=r"train\.batch_size: 17 is more than the 16 examples of folder:.*at most 16"):
        go(tmp_path / "run", too_large, resume=False)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_counts_what_can_be_counted(first, capsys, monkeypatch):
    monkeypatch.chdir(first.place)
    quickstart = str(Path(__file__).parents[1] / "recipes" / "quickstart.yaml")

    def dry(*arguments):
        with pytest.raises(SystemExit) as left:
            main(["train", "--dry-run", *arguments])
        return left.value.code, " ".join("".join(capsys.readouterr()).split())

    assert dry("r.yaml")[0] == 0
    for code, words, arguments in (
        (0, "2 epochs x 2 = 4", ["r.yaml"]),
        (0, "2 epochs x 7 = 14: by steps_per_epoch that is 7 passes", ["r.yaml", "--set", "train.steps_per_epoch=7"]),
        (2, "train.batch_size: 17 is more than the 16 examples", ["r.yaml", "--set", "train.batch_size=17"]),
        (1, "no such folder", ["r.yaml", "--set", "data.name=folder:gone"]),
        (2, "5,000 is more than the 4,000 examples of digits", [quickstart, "--set", "train.batch_size=5000"]),
        (2, "128 is more than the 100 examples", [quickstart, "--set", "data.options.limit=100"]),
        (0, "photos was not opened", [quickstart, "--set", "data.name=photos", "--set", "evaluate.data=null"]),
    ):
        found = dry(*arguments)
        assert found[0] == code
        assert words in found[1]


def test_an_epoch_that_is_more_than_the_data_is_told_before_the_first_step(first, tmp_path):
    """Three steps of 8 where there are 16 examples: an epoch and a half each."""
    recipe = load(first.folder / "recipe.yaml", ["train.steps_per_epoch=3", "evaluate.knn=null", "export.formats=[]"])
    said = go(tmp_path / "run", recipe, resume=False)
    words = "2 epochs x 3 = 6: by steps_per_epoch that is 3 passes over the examples"
    assert said.index(words) < said.index("epoch   1/2")
    assert (Run(tmp_path / "run").record["passes"], Run(first.folder).record["passes"]) == (3.0, 2.0)


def test_another_method_makes_a_run_of_another_name(tmp_path):
    quickstart = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"
    other = load(quickstart, ["method.name=rotation", "method.options={}"])
    assert other.name == "quickstart-rotation"
    assert load(quickstart, ["method={name: rotation}", "backbone.name=convnet4"]).name == "quickstart-rotation"
    assert load(quickstart, ["method={name: rotation}", "name=mine"]).name == "mine"
    assert load(quickstart, ["method.options.temperature=0.3"]).name == "quickstart"


def test_the_written_recipe_is_read_back(tmp_path, monkeypatch, first):
    recipe = load(first.folder / "recipe.yaml")
    monkeypatch.setattr("kzoo.runs.run.dump", lambda recipe: dump(recipe).replace("batch_size: 8", "batch_size: 4"))
    with pytest.raises(RecipeError, match=r"recipe\.yaml: reads back .*\(train\.batch_size: 4, was 8\)"):
        Run(tmp_path / "run").start(recipe, None)


def test_the_command_ends_with_2_where_the_batch_is_too_large(first, capsys, monkeypatch):
    monkeypatch.chdir(first.place)
    with pytest.raises(SystemExit) as left:
        main(["train", "r.yaml", "--run-dir", os.devnull + "x", "--set", "train.batch_size=5000"])
    assert left.value.code == 2
    assert json.dumps(capsys.readouterr().err).count("error:") == 1
