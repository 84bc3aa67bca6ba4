"""What follows a training, where a piece of it fails."""

import errno
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

import kzoo
from kzoo.data import array_source
from kzoo.evaluate import pretext_table
from kzoo.method import Method
from kzoo.runs import report
from kzoo.runs.report import _drawing, _refused, picture_training, pretext_figures
from kzoo.runs.run import Run
from kzoo.system.files import write_json
from kzoo.testing.tiny import tiny_backbone


def test_a_picture_that_fails_is_one_line_and_ends_nothing(tmp_path):
    console = Console(width=200, file=io.StringIO())
    with _drawing(tmp_path / "views.png", console):
        raise RuntimeError("no\nroom [bold]left")
    assert console.file.getvalue() == f"{tmp_path / 'views.png'}: not drawn: RuntimeError: no room [bold]left\n"


def test_a_picture_may_be_interrupted(tmp_path):
    """Ctrl-C is no fault of the picture."""
    heard = []
    try:
        with _drawing(tmp_path / "views.png", Console(file=io.StringIO())):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        heard.append(True)
    assert heard == [True]


class Ids(Method):
    """Logs what can be worked out by hand: the mean of the ids it is given, and whether it is in training."""

    options: kzoo.Options

    @staticmethod
    def pretext(batch, seed, options):
        return {"number": tf.cast(batch["id"], tf.float32)}

    def forward(self, batch, training):
        return {"training": tf.constant(float(training))}

    def loss(self, outputs, batch):
        return {"loss": tf.reduce_mean(batch["number"]), "training": outputs["training"]}

    def chance(self):
        return {"loss": 7.5}

    def extra_metrics(self, train, test):
        return {"sizes": np.float32(100 * train.size + (test.size if test else 0))}


class NeverHeldOut(Ids):
    has_held_out_loss = False


def source(size):
    return array_source("blank", np.zeros((size, 8, 8, 1), "uint8"))


def figures_of(kind, test, batch_size=4, console=None):
    console = console or Console(file=io.StringIO())
    run = SimpleNamespace(folder="tiny", recipe=SimpleNamespace(seed=3, train=SimpleNamespace(batch_size=batch_size)))
    return pretext_figures(run, kind(tiny_backbone((8, 8, 1))), source(3), test, console)


def test_the_pretext_is_asked_about_every_held_out_example_once_and_in_inference_mode():
    """Ids 0 to 15 in four batches: their mean is 7.5 if each is asked once."""
    assert figures_of(Ids, source(16)) == {
        "held_out": {"loss": 7.5, "training": 0.0},
        "chance": {"loss": 7.5},
        "own": {"sizes": 316.0},
        "failed": {},
    }


@pytest.mark.parametrize("fails", ["chance", "test_step", "extra_metrics"])
def test_a_figure_of_the_method_that_fails_is_one_line_and_ends_nothing(fails, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no\nfaith")

    sound = figures_of(Ids, source(16))
    monkeypatch.setattr(Ids, fails, refuse)
    console = Console(width=200, file=io.StringIO())
    found = figures_of(Ids, source(16), console=console)
    part, what = {
        "chance": ("chance", "chance"),
        "test_step": ("held_out", "held-out figures"),
        "extra_metrics": ("own", "extra metrics"),
    }[fails]
    assert found.pop("failed") == {what: "RuntimeError: no faith"}
    assert found == {**{key: sound[key] for key in found}, part: {}}
    assert console.file.getvalue() == f"tiny: no {what} of the method: RuntimeError: no faith\n"
    console.print(pretext_table({**found, "failed": {what: "RuntimeError: no faith"}}))
    assert [what.split()[0], "failed"] in [
        [line.split()[0], line.split()[-1]] for line in console.file.getvalue().splitlines() if line.split()
    ]


def test_no_more_held_out_examples_are_asked_than_it_takes(monkeypatch):
    """Four of six hundred, in two batches, and no fewer than one batch."""
    monkeypatch.setattr(report, "_HELD_OUT", 5)
    asked = []
    monkeypatch.setattr(Ids, "test_step", lambda self, batch: asked.append(len(batch["id"])) or {"loss": tf.zeros([])})
    monkeypatch.setattr(tf, "function", lambda step, autograph: step)
    figures_of(Ids, source(600), batch_size=2)
    assert asked == [2, 2]
    figures_of(Ids, source(600), batch_size=50)
    assert asked == [2, 2, 50]
    figures_of(Ids, source(3), batch_size=50)  # fewer than a batch
    assert asked == [2, 2, 50, 3]


@pytest.mark.parametrize(("kind", "test"), [(Ids, None), (NeverHeldOut, source(16))])
def test_what_cannot_be_asked_has_no_held_out_figures(kind, test):
    found = figures_of(kind, test)
    assert found["held_out"] == {}
    assert found["own"] == {"sizes": 300.0 + (test.size if test else 0)}


@pytest.mark.parametrize(("asked", "given"), [(6, 6), (40, 16)])
def test_a_method_is_given_as_many_examples_to_visualise_as_it_asks_for_and_there_are(tmp_path, asked, given):
    seen = []

    class Seen(Ids):
        visualised_examples = asked

        def visualise(self, raw, batch):
            seen.append((len(raw["image"]), len(batch["number"])))
            return {}

    run = SimpleNamespace(recipe=SimpleNamespace(seed=3), figures=tmp_path, logs=tmp_path)
    picture_training(run, Seen(tiny_backbone((8, 8, 1))), source(50), source(16), Console(file=io.StringIO()))
    assert seen == [(given, given)]


def test_a_figure_of_the_pretext_that_is_no_number_is_told_after_a_round_through_the_run(tmp_path):
    """JSON has no NaN: `kzoo.json` holds null, and the table is made from what it holds."""
    write_json(tmp_path / "kzoo.json", {"held_out": {"loss": 2.0}, "chance": {"loss": np.inf}, "own": {"psnr": np.nan}})
    console = Console(width=80, file=io.StringIO())
    console.print(pretext_table(json.loads((tmp_path / "kzoo.json").read_text())))
    rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["loss", "2"] in rows
    assert ["psnr", "no", "number"] in rows


def test_what_a_read_only_run_refuses_is_told_and_what_it_takes_is_not(tmp_path, monkeypatch):
    assert _refused(Run(tmp_path), {"feature": "embedding"}, {}) == ""
    assert "embedding" in (tmp_path / "evaluation.json").read_text()

    def read_only(*_):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "evaluation.json"))

    monkeypatch.setattr(report, "write_json", read_only)
    assert _refused(Run(tmp_path), {}, {}) == (
        f"{tmp_path}: cannot be written: Read-only file system; make it accessible, or choose another place; "
        "the figures are shown, not kept"
    )
