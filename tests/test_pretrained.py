"""A trained backbone is loaded as a Keras model, and begins another training."""

import json
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

import kzoo
from kzoo.cli.app import main
from kzoo.errors import BackboneError
from kzoo.recipe.load import load
from kzoo.runs import checkpoint
from kzoo.runs.build import build_method, open_sources
from kzoo.runs.pretrained import Initial
from kzoo.runs.report import export_run
from kzoo.runs.run import Run
from kzoo.train.loop import train
from kzoo.use import verify as verifying

RECIPE = (Path(__file__).parent / "tiny.yaml").read_text()
IMAGES = np.random.default_rng(0).random((3, 28, 28, 1)).astype("float32")


def go(folder, *overrides, resume=False):
    out = StringIO()
    train(load(folder.parent / "r.yaml", overrides), folder, resume, Console(file=out, width=300))
    return out.getvalue()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    (place / "r.yaml").write_text(RECIPE)
    go(place / "first")
    export_run(place / "first", ["saved_model"], None, Console(quiet=True))
    return place / "first"


@pytest.fixture
def run(first, tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    return Path(shutil.copytree(first, tmp_path / "run"))


def answer(model):
    return np.asarray(model(IMAGES, training=False)["embedding"])


def test_a_run_and_its_export_hold_the_trained_backbone(first):
    source, _ = open_sources(Run(first).recipe)
    right = answer(Run(first).encoder(source))
    for place in (first, first / "exports" / "tiny", first / "exports" / "tiny" / "1"):
        model = kzoo.load_backbone(place)
        np.testing.assert_allclose(answer(model), right, atol=1e-6)
        assert len(model.trainable_weights) > 0
    untrained = answer(build_method(Run(first).recipe, source).encoder)
    assert not np.allclose(untrained, right, atol=1e-3)


def test_it_trains_as_any_keras_model(first):
    backbone = kzoo.load_backbone(first)
    model = keras.Sequential(
        [backbone, keras.layers.Lambda(lambda outputs: outputs["embedding"]), keras.layers.Dense(2)]
    )
    before = [weight.numpy() for weight in backbone.trainable_weights]
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(IMAGES, np.array([0, 1, 1]), verbose=0)
    assert all((old != new.numpy()).any() for old, new in zip(before[:1], backbone.trainable_weights, strict=False))


def test_keras_alone_loads_the_file_after_importing_kzoo(first):
    path = str(first / "backbone.keras")
    code = f"import kzoo, keras; print(keras.saving.load_model({path!r}).output['embedding'].shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("(None, "), done.stderr


def test_it_loads_where_the_data_is_gone(run, monkeypatch):
    def gone(*_, **__):
        raise AssertionError("the data were opened")

    monkeypatch.setattr("kzoo.runs.pretrained.open_data", gone)
    assert answer(kzoo.load_backbone(run)).shape[0] == 3


def test_a_run_that_lost_it_makes_it_again(run):
    right = answer(kzoo.load_backbone(run))
    (run / "backbone.keras").unlink()
    np.testing.assert_allclose(answer(kzoo.load_backbone(run)), right, atol=1e-6)
    assert (run / "backbone.keras").is_file()


def test_a_changed_byte_of_a_run_is_made_again_and_of_an_export_is_refused(run):
    right = answer(kzoo.load_backbone(run))
    export = run / "exports" / "tiny" / "1"
    for path in (run / "backbone.keras", export / "assets.extra" / "backbone.keras"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    np.testing.assert_allclose(answer(kzoo.load_backbone(run)), right, atol=1e-6)
    with pytest.raises(BackboneError, match=r"backbone\.keras: is not the file that was written"):
        kzoo.load_backbone(export)


def test_verify_probes_an_export_again(first, monkeypatch):
    """With the same data, the accuracy of its contract; another one is wrong, and without the data nothing is said."""
    export = first / "exports" / "tiny" / "1"
    monkeypatch.setattr(verifying, "_of_formats", lambda *_: [verifying.Check("saved_model", "proven", "", 0.0)])
    out = StringIO()
    found = verifying.verify(export, Console(file=out, width=100), probe=True)
    probed = {"name": "probe", "verdict": "proven", "found": "finds the accuracy that the contract says, within noise"}
    assert found["checks"][-1] == {**probed, "error": None}
    assert "untrained" in out.getvalue()  # the table beside the untrained backbone

    contract = json.loads((export / "contract.json").read_text())

    def probe(**changed):
        check = verifying._probed(export, {**contract, **changed}, Console(quiet=True))
        return f"{check.verdict}: {check.found}"

    report = contract["evaluation"]
    better = {**report["trained"], "knn": {**report["trained"]["knn"], "test_accuracy": 1.0}}
    told = probe(evaluation={**report, "trained": better})
    assert told == "wrong: finds another accuracy than the contract says: knn"
    told = probe(made_from={**contract["made_from"], "data": "other"})
    assert told == "not proven: digits: holds other examples here than it was trained on"
    gone = {**contract["recipe"], "data": {**contract["recipe"]["data"], "name": "folder:/gone", "options": {}}}
    assert probe(recipe=gone).startswith("not proven: ")
    assert probe(evaluation=None) == "not proven: the contract holds no evaluation"


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_what_is_no_run_is_told(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(BackboneError, match=r"x: (no such folder|neither a run nor an export)"):
        kzoo.load_backbone(tmp_path / "x")


def test_training_begins_with_it_and_the_baseline_is_still_untrained(run, monkeypatch):
    first = kzoo.load_backbone(run)
    begun = []
    begin = Initial.begin
    monkeypatch.setattr(
        Initial, "begin", lambda self, backbone: (begin(self, backbone), begun.append(answer(backbone)))
    )
    go(run.parent / "second", f"init_from={run}", "method.name=autoencoder", "method.options={}")
    [after] = begun
    np.testing.assert_allclose(after, answer(first), atol=1e-6)
    record = json.loads((run.parent / "second" / "kzoo.json").read_text())
    assert record["init_from"]["sha256"] == json.loads((run / "kzoo.json").read_text())["model"]["sha256"]
    assert record["init_from"]["folder"] == str(run)
    # [after]: evaluation did not begin the baseline with it, else `begin` had been called once more
    trained, source = kzoo.load_backbone(run.parent / "second"), open_sources(Run(run).recipe)[0]
    anew = build_method(Run(run).recipe, source).backbone
    begin(Initial(run.parent / "second"), anew)  # what an autoencoder put behind its backbone is left
    inputs = IMAGES[:1]
    np.testing.assert_allclose(anew(inputs)["map"], trained(inputs)["map"], atol=1e-6)


def test_a_resumed_run_needs_no_more_what_it_began_with(run):
    second = run.parent / "second"
    go(second, f"init_from={run}")
    shutil.rmtree(run)
    assert checkpoint.exist(second / "checkpoints")
    assert "nothing to do" in go(second, f"init_from={run}", resume=True)
    go(second, f"init_from={run}", "train.epochs=2", resume=True)
    assert json.loads((second / "kzoo.json").read_text())["init_from"]["folder"] == str(run)


def test_another_shape_is_refused_by_name(run):
    with pytest.raises(BackboneError, match=r"run: weight 0 is kernel \[3, 3, 1, 8\] there, and .*1, 16\]"):
        go(run.parent / "second", f"init_from={run}", "backbone.options.width=16")
    assert not (run.parent / "second").exists()


def test_a_dry_run_foresees_that_it_is_missing(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text(RECIPE)
    with pytest.raises(SystemExit) as left:
        main(["train", str(tmp_path / "r.yaml"), "--dry-run", "--set", f"init_from={tmp_path / 'none'}"])
    assert left.value.code == 1
    assert "none: no such folder" in capsys.readouterr().err


def test_a_run_is_fine_tuned_to_a_classifier_that_is_exported_with_its_classes(run):
    tuned = run.parent / "tuned"
    options = "{padding: 0, flip: 0, backbone_rate: 0.1, layer_decay: 0.7}"
    overrides = ("method.name=supervised", f"method.options={options}", "export.formats=[saved_model]", "name=tuned")
    go(tuned, f"init_from={run}", "data.labels={per_class: 2, share: 1}", *overrides)
    record = json.loads((tuned / "kzoo.json").read_text())
    assert 0 <= record["pretext"]["own"]["test_accuracy"] <= 1
    assert record["init_from"]["folder"] == str(run)
    served = tf.saved_model.load(str(tuned / "exports" / "tuned" / "1")).signatures["classify"]
    answered = served(image=tf.zeros((1, 28, 28, 1), tf.uint8))
    assert [name.decode() for name in answered["classes"].numpy()[0]] == [str(digit) for digit in range(10)]
