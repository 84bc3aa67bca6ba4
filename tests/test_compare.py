"""`kzoo compare`: runs beside each other, from what their evaluations wrote."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kzoo.cli.app import main
from kzoo.errors import EvaluationError
from kzoo.use import compare


def run(folder, knn=(0.8, 0.6), says="better than untrained", digest="d", method="simclr", k=20, collapsed=False):
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(
        f"method: {{name: {method}}}\nbackbone: {{name: convnet4}}\ndata: {{name: digits}}\n"
    )
    (folder / "kzoo.json").write_text(json.dumps({"test": {"digest": digest}, "passes": 5.0}))
    part = {"embedding": {"width": 8, "effective_rank": 4.0, "collapsed": collapsed}, "knn": {"k": k}}
    part |= {"labelled_test_examples": 100, "chance": {"accuracy": 0.1}}
    verdict = {"knn": {"trained": knn[0], "untrained": knn[1], "difference": knn[0] - knn[1], "says": says}}
    report = {"trained": part, "untrained": part, "verdict": verdict, "data": {"train": "digits", "test": "digits"}}
    (folder / "evaluation.json").write_text(json.dumps(report))
    return folder


def call(capsys, *arguments):
    try:
        main(["compare", *map(str, arguments)])
    except SystemExit as left:
        return left.code or 0, *capsys.readouterr()
    return 0, *capsys.readouterr()


def test_runs_are_in_one_table_each_beside_its_untrained_backbone(tmp_path, capsys):
    code, out, _ = call(capsys, run(tmp_path / "one"), run(tmp_path / "two", (0.7, 0.75), "worse than untrained"))
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert "simclr" in rows["one"]
    assert "80.0 / 60.0" in rows["one"]
    assert "70.0 / 75.0" in rows["two"]
    assert "not the same" not in out


def test_as_json_it_has_every_figure_and_nothing_else_is_on_the_output(tmp_path, capsys):
    code, out, _ = call(capsys, run(tmp_path / "a" / "x"), run(tmp_path / "b" / "x", digest="other"), "--json")
    found = json.loads(out)
    assert code == 0
    assert [one["probes"]["knn"]["trained"] for one in found["runs"]] == [0.8, 0.8]
    assert len({one["run"] for one in found["runs"]}) == 2  # folders of one name stay apart
    assert found["differs"] == [
        "the runs have not the same test examples: compare each with its own untrained backbone only"
    ]


def test_other_settings_are_told(tmp_path):
    found = compare.gather([run(tmp_path / "one"), run(tmp_path / "two", k=5)])
    assert found["differs"] == ["kNN: the runs ask it with other settings"]


def test_a_collapsed_run_is_marked(tmp_path, capsys):
    assert "collapsed" in call(capsys, run(tmp_path / "one", collapsed=True))[1]


def test_the_picture_has_a_bar_for_each_run(tmp_path, capsys):
    code, out, _ = call(capsys, run(tmp_path / "one"), run(tmp_path / "two"), "--picture", tmp_path / "p.png")
    assert code == 0
    assert "p.png" in out.replace("\n", "")
    pixels = np.asarray(Image.open(tmp_path / "p.png").convert("RGB"))
    green = (pixels == (0, 158, 115)).all(axis=-1).any(axis=1).astype(int)
    assert (np.diff(green) == 1).sum() == 2


def test_what_is_no_run_or_not_evaluated_is_told(tmp_path, capsys):
    run(tmp_path / "one")
    (tmp_path / "one" / "evaluation.json").unlink()
    with pytest.raises(EvaluationError, match=r"one: not evaluated yet; `kzoo evaluate "):
        compare.gather([tmp_path / "one"])
    code, _, said = call(capsys, tmp_path / "none")
    assert code == 1
    assert "none: no run; name folders that kzoo train made" in said.replace("\n", " ")
    assert call(capsys, run(tmp_path / "two"), "--picture", tmp_path / "p.jpg")[0] == 2


def test_it_does_not_import_tensorflow(tmp_path):
    folder = run(tmp_path / "one")
    code = "import sys; from kzoo.cli.app import main\ntry: main()\nfinally: print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "compare", str(folder)], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done
