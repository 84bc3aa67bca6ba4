"""Kills training runs anywhere, resumes them until they are done, and compares each with the run nobody touched.

    python benchmarks/kill.py [--trials 20] [--during-save 8] [--json benchmarks/results/kill.json]

MoCo v2 (queue, moving-average encoder, shuffled and augmented images) on a network with dropout. A trial ends like the
reference if the loss of every step that any of its processes made, every array of the final state and every row of
metrics.csv are equal to the last bit, and no unfinished file is left. Exit code 1 if any does not. What follows the
training (figures, evaluation) is left out: it keeps nothing, a resumed run does all of it.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from record import origin

ROOT = Path(__file__).parents[1]
STEPS = 36
RECIPE = """\
kzoo: 1
name: kill
seed: 3
data: {name: digits, options: {limit: 200}}
backbone: {name: dropout_net}
method: {name: moco_v2, options: {queue: 64, groups: 4, projector: [32, 16], momentum: 0.9}}
optimizer: {name: sgd, learning_rate: 0.05, schedule: cosine, warmup_epochs: 1}
train: {epochs: 3, batch_size: 16, checkpoint: {every_steps: 5, every_minutes: null}}
evaluate: {knn: null, linear: null, low_shot: null}
export: {formats: []}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--during-save", type=int, default=8, help="trials that are killed while they save")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "kill.json")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        install_plugin(folder)
        import kzoo.train.loop as training  # once, for all the processes that are forked from this one

        for after in ("picture_training", "pretext_figures", "evaluate_run"):
            setattr(training, after, lambda *_: None)
        (folder / "recipe.yaml").write_text(RECIPE)
        began = time.monotonic()
        assert run_to_end(folder, "reference") == 0, (folder / "reference.log").read_text()
        seconds = time.monotonic() - began
        trials = []
        for number in range(arguments.trials):
            # a save is some 60 events, and there are 10 of them
            at = draw.randrange(500) if number < arguments.during_save else None
            trials.append(trial(folder, f"trial_{number}", at, seconds, draw))
            print(json.dumps(trials[-1]), flush=True)
    result = {
        **origin(),
        "steps": STEPS,
        "trials": len(trials),
        "killed_while_saving": sum(bool(each["died_in"]) for each in trials),
        "equal": sum(not each["faults"] for each in trials),
        "each": trials,
    }
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{result['equal']} of {len(trials)} ended as the reference, {result['killed_while_saving']} killed in a save"
    )
    sys.exit(result["equal"] < len(trials))


def install_plugin(folder: Path) -> None:
    """Write the plugin as a distribution and have this process, and those forked from it, find it."""
    shutil.copy(Path(__file__).with_name("kill_plugin.py"), folder / "kzoo_kill.py")
    info = folder / "kzoo_kill-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kzoo-kill\nVersion: 1.0\nRequires-Dist: kzoo>=0.1\n")
    (info / "entry_points.txt").write_text("[kzoo]\nkill = kzoo_kill\n")
    sys.path.insert(0, str(folder))
    os.environ["KZOO_PLUGINS"] = "kill,contrastive,samples"


def start(folder: Path, name: str, kill_at: int | None = None) -> int:
    """`kzoo train` in a process of its own; returns its id."""
    process = os.fork()
    if process:
        return process
    if kill_at is not None:
        os.environ["KZOO_KILL_AT"] = str(kill_at)
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 70
    try:
        from kzoo.cli.app import main as kzoo

        kzoo(["train", str(folder / "recipe.yaml"), "--run-dir", str(folder / name), "--resume"])
    except SystemExit as exited:
        code = int(exited.code or 0)
    finally:
        os._exit(code)


def run_to_end(folder: Path, name: str) -> int:
    """The exit code of a run that is left alone."""
    return os.waitstatus_to_exitcode(os.waitpid(start(folder, name), 0)[1])


def trial(folder: Path, name: str, at: int | None, seconds: float, draw: random.Random) -> dict:
    """Kill a run once while it saves, or once or twice at any time; resume it to its end; compare.

    at: which of the things it does while saving it dies at. seconds: what an undisturbed run takes.
    """
    run = folder / name
    killed_after = []
    if at is not None:
        os.waitpid(start(folder, name, at), 0)
    else:
        for _ in range(draw.choice((1, 2))):
            process, wait = start(folder, name), draw.uniform(0, seconds)
            time.sleep(wait)
            os.kill(process, signal.SIGKILL)
            if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL:
                killed_after.append(round(wait, 2))
    stopped_at = sorted(path.name for path in (run / "checkpoints").glob("step-*"))
    code = run_to_end(folder, name)
    faults = [f"exit code {code}"] if code else compare(run, folder / "reference")
    died_in = (run / "kills.txt").read_text().split() if (run / "kills.txt").exists() else []
    if code:
        print((folder / f"{name}.log").read_text()[-2000:], file=sys.stderr)
    shutil.rmtree(run, ignore_errors=True)
    return {"killed_after_s": killed_after, "died_in": died_in, "checkpoints_then": stopped_at, "faults": faults}


def compare(run: Path, reference: Path) -> list[str]:
    """What differs between two finished runs."""
    faults = []
    expected = steps(reference)[-STEPS:]
    if not set(steps(run)) <= set(expected) or len(set(steps(run))) != STEPS:
        faults.append("a step, its place in the epoch, a callback's state or a loss")
    last = f"checkpoints/step-{STEPS:08d}/state.npz"
    if (run / last).read_bytes() != (reference / last).read_bytes():
        faults.append("the final state")
    if rows(run) != rows(reference):
        faults.append("metrics.csv")
    if left := [str(path.relative_to(run)) for path in run.rglob(".*")]:
        faults.append(f"left behind: {', '.join(left)}")
    return faults


def steps(run: Path) -> list[str]:
    return (run / "steps.txt").read_text().splitlines()


def rows(run: Path) -> list[dict]:
    """The rows of metrics.csv without what the clock decides."""
    with (run / "logs" / "metrics.csv").open() as file:
        return [{key: row[key] for key in row if "images_per_second" not in key} for row in csv.DictReader(file)]


if __name__ == "__main__":
    main()
