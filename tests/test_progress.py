"""The progress bar and the tables of a run: the loss first, nothing cut, no empty column, no bar in a file."""

import io
import sys

from rich.console import Console

from kzoo.evaluate.tables import pretext_table, table
from kzoo.system.console import make_console
from kzoo.train import callbacks
from kzoo.train.callbacks import ProgressBar

LOGS = {"accuracy": 0.25, "loss": 3.14159, "top_5_accuracy": 0.5, "temperature": 0.1}


def trained(console: Console) -> ProgressBar:
    """A bar after two of four steps and one of two epochs."""
    bar = ProgressBar(epochs=2, steps=2, batch_size=8, start=0, console=console)
    bar.on_epoch_begin(0)
    for batch in range(2):
        bar.on_train_batch_end(batch, LOGS)
    bar.on_epoch_end(0, {**LOGS, "images_per_second": 100.0, "learning_rate": 0.1})
    return bar


def test_the_loss_comes_first_and_a_figure_is_shown_whole_or_not_at_all():
    figures = callbacks._figures(LOGS)
    assert figures == ["loss 3.142", "accuracy 0.25", "top_5_accuracy 0.5", "temperature 0.1"]
    shown = [callbacks._that_fit(figures, room) for room in (9, 10, 24, 25, 200)]
    assert shown == ["", "loss 3.142", "loss 3.142", "loss 3.142  accuracy 0.25", "  ".join(figures)]


def test_a_bar_fits_its_line_and_begins_with_the_loss():
    for width in (60, 80, 120):
        console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
        bar = trained(console)
        [line] = [line for line in console.render_lines(bar.bar.get_renderable()) if line]
        text = "".join(segment.text for segment in line).rstrip()
        bar.close()
        assert len(text) <= width
        assert "…" not in text
        assert "left loss 3.142" in text


def test_no_bar_is_left_in_a_file_and_each_epoch_has_its_line():
    console = Console(width=120, file=io.StringIO())
    trained(console).close()
    assert console.file.getvalue() == (
        "epoch   1/2  loss 3.142  accuracy 0.25  top_5_accuracy 0.5  temperature 0.1  100 examples/s\n"
    )


def test_columns_that_would_be_empty_are_left_out():
    known = {"held_out": {"loss": 3.0}, "own": {}, "chance": {}}
    assert len(pretext_table(known).columns) == 2
    assert len(pretext_table({**known, "chance": {"loss": 4.0}}).columns) == 3
    shape = {"spread": 0.5, "effective_rank": 8.0, "width": 16, "collapsed": False}
    untrained = {"embedding": shape}
    heads = ["on the test split", "trained", "untrained", "change"]
    for collapsed, more in ((False, []), (True, ["trained is"])):
        found = {"embedding": {**shape, "collapsed": collapsed}, "no_probes": "no labels"}
        shown = table({"trained": found, "untrained": untrained, "verdict": {}})
        assert [column.header for column in shown.columns] == heads + more


def test_a_long_epoch_without_a_bar_says_where_it_is(monkeypatch):
    clock = iter(range(0, 1000, 40))
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(clock))
    console = Console(width=120, file=io.StringIO())
    bar = ProgressBar(epochs=1, steps=9, batch_size=8, start=0, console=console)
    bar.on_epoch_begin(0)
    for batch in range(3):
        bar.on_train_batch_end(batch, LOGS)
    first, *_ = console.file.getvalue().splitlines()
    assert first.startswith("epoch 1/1  step ")
    assert "/9  loss 3.142  " in first


def test_in_a_notebook_nothing_is_drawn_over(monkeypatch):
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert not make_console().is_interactive
    assert not make_console().is_jupyter
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    assert make_console().color_system == "standard"
