"""Several processes that train as one: the same numbers, one that writes, all that stop together.

Here with a queue and shuffled statistics, for which each worker needs the others; benchmarks/replicas.py trains every
method on two workers.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from kzoo.distribute import devices
from kzoo.distribute.launch import local_cluster
from kzoo.errors import StrategyError
from kzoo.recipe.load import load
from kzoo.train.loop import train

ROOT = Path(__file__).parents[1]
SMALL = (
    *("data.options.limit=128", "backbone.name=convnet4", "train.batch_size=64", "export.formats=[]"),
    "method={name: moco_v2, options: {queue: 128, groups: 2, projector: [16, 8]}}",
    "evaluate={knn: null, linear: null, low_shot: null}",
)
pytestmark = pytest.mark.xdist_group("workers")  # each test has several processes already


def kzoo(*arguments, **how):
    return [sys.executable, "-m", "kzoo", *map(str, arguments)]


def overrides(*values):
    return [part for value in values for part in ("--set", value)]


def losses(folder):
    return [float(row["loss"]) for row in csv.DictReader((folder / "logs" / "metrics.csv").open())]


WRONG = {
    "not JSON": ("{", "TF_CONFIG: not JSON: "),
    "no cluster": ("{}", 'TF_CONFIG: cluster.worker must list the address of each worker, ["host:port", ...]'),
    "no port": ('{"cluster": {"worker": ["a"]}}', "TF_CONFIG: cluster.worker must list the address"),
    "one twice": ('{"cluster": {"worker": ["a:1", "a:1"]}}', "TF_CONFIG: cluster.worker names a:1 twice"),
    "a parameter server": (
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}}',
        "TF_CONFIG: cluster.ps: only workers train here",
    ),
    "no task": ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG: task.type must be 'worker'; received None"),
    "no such worker": (
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        "TF_CONFIG: task.index must say which of the 2 workers this is, 0 to 1; received 2",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_cluster_is_told_in_one_line(case, monkeypatch):
    text, message = WRONG[case]
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(StrategyError) as error:
        devices.make_strategy("multi_worker", None, 4)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_no_cluster_at_all(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(StrategyError, match=r"needs TF_CONFIG or Slurm's variables.*kzoo launch --workers 2 RECIPE"):
        devices.make_strategy("multi_worker", None, 4)


def test_keras_still_needs_our_care():
    """When this fails, Keras can train over several workers by itself: `Method._make_function` and its neighbour go."""
    running = [
        subprocess.Popen(
            [sys.executable, ROOT / "tests" / "stock_worker.py"],
            env={**os.environ, "TF_CONFIG": config},
            stderr=subprocess.PIPE,
            text=True,
        )
        for config in local_cluster(2)
    ]
    said = [process.communicate(timeout=180)[1] for process in running]
    assert all(process.returncode for process in running)
    assert any("Invalid reduction dimension 0" in text or "merge_call" in text for text in said), said[0][-2000:]


def test_when_a_worker_dies_the_others_stop_and_a_restart_ends_as_one_process_with_two_devices(tmp_path):
    folder = tmp_path / "workers"
    recipe = ROOT / "recipes" / "quickstart.yaml"
    # with this schedule the rate does not depend on the number of epochs
    exact = ["optimizer={name: sgd, learning_rate: 0.1, schedule: constant}", "train.precision=float64"]
    every_epoch = "train.checkpoint.every_steps=2"
    call = kzoo("launch", recipe, "--workers", 2, "--run-dir", folder, *overrides(*SMALL, *exact, every_epoch))
    endless = overrides("train.epochs=2000")
    with (tmp_path / "said").open("w") as said:
        launcher = subprocess.Popen([*call, *endless], stdout=said, stderr=subprocess.STDOUT)
        wait_for(lambda: len(losses(folder)) >= 2, launcher, folder / "logs" / "metrics.csv")
        victim = max(children(launcher.pid))  # the last started: not the chief
        os.kill(victim, signal.SIGKILL)
        began = time.monotonic()
        code = launcher.wait(timeout=120)
    said = (tmp_path / "said").read_text()
    assert code not in (0, None)
    assert time.monotonic() - began < 75
    assert "worker 1 of 2 ended with exit code 137" in said
    assert "another worker" in said
    assert not list(children_of_group(folder))

    epochs = max(int(path.name.split("-")[1]) for path in (folder / "checkpoints").iterdir()) // 2 + 2
    shorter = overrides(f"train.epochs={epochs}", "export.formats=[saved_model]")
    done = subprocess.run([*call, *shorter, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "resumed from" in done.stdout
    assert done.stdout.count(f"epoch   {epochs}/{epochs}") == 1  # the chief alone speaks
    assert json.loads((folder / "kzoo.json").read_text())["status"] == "finished"
    assert (folder / "exports" / "quickstart-moco_v2" / "1" / "saved_model.pb").exists()

    two_devices = ["train.strategy=mirrored", "train.devices=2", f"train.epochs={epochs}"]
    alone = load(recipe, [*SMALL, *exact, *two_devices])
    train(alone, tmp_path / "devices", False, Console(file=StringIO()))
    assert len(losses(folder)) == epochs
    assert losses(folder) == pytest.approx(losses(tmp_path / "devices"), rel=1e-10)


def wait_for(condition, process, path, seconds=240):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, "ended early"
        if path.exists() and path.stat().st_size and condition():
            return
        time.sleep(0.2)
    raise AssertionError("waited in vain")


def children(pid):
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def children_of_group(folder):
    """Processes that still name this run on their command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in text and "train" in text:
            yield path.parent.name
