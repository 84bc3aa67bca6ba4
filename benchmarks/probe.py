"""What each method's representation is worth after a short training on the CPU, beside the untrained encoder.

Every recipe of `recipes/<dataset>/` is trained for a fixed CPU time (of all cores together, training alone), then
evaluated as `kzoo train` does, at the last epoch: linear probe and nearest neighbours on held-out examples, of every
feature that the recipe names, with up to 10,000 labelled examples to fit the probes on. The number of epochs follows
from the time of the recipe's first steps, so that the schedule ends with the budget. Results are kept one by one in
`results/probe.json`; a recipe whose result is there is not run again, unless named.

    python benchmarks/probe.py --minutes 5 [fashion_mnist/simclr ...] [--runs FOLDER]
"""

import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import typer
from record import origin
from rich.console import Console
from rich.table import Table

from kzoo.system.files import write_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "probe.json"
DATASETS = ("fashion_mnist", "photos", "python_docs")
MAX_TRAIN = 10_000  # labelled examples for the probes, where the dataset has as many
TIMED_STEPS = 4, 16  # lengths of two trainings; what both cost, as filling the stream's buffers, is no step's


def measure(name: str, overrides: list[str], minutes: float, runs: Path | None, console: Console) -> dict[str, Any]:
    """Train one recipe for some CPU minutes; returns what its evaluation says.

    The run stays in `runs`, with its pictures; nowhere if that is None.
    """
    from kzoo.recipe.load import load
    from kzoo.train.loop import train

    path = ROOT / "recipes" / f"{name}.yaml"
    recipe = load(path, overrides)
    cost, steps = _seconds_per_step(recipe)
    affordable = max(1, int(60 * minutes / cost))
    epochs = math.ceil(affordable / steps)
    per_epoch = affordable // epochs
    budget = [
        *overrides,
        f"train.epochs={epochs}",
        f"train.steps_per_epoch={per_epoch}",
        f"evaluate.max_train={MAX_TRAIN}",
    ]
    if recipe.optimizer.warmup_epochs >= epochs:
        budget.append(f"optimizer.warmup_epochs={0.1 * epochs}")
    if recipe.optimizer.milestones:
        budget.append("optimizer.milestones=" + json.dumps(_within(recipe, epochs)))
        budget += ["optimizer.schedule=constant"] if not _within(recipe, epochs) else []
    budget += ["export.formats=[]", "evaluate.low_shot=null"]
    with tempfile.TemporaryDirectory(prefix="kzoo-probe-") as scratch:
        before = time.process_time()
        run = train(load(path, budget), (runs or Path(scratch)) / name.replace("/", "-"), False, console)
        report = json.loads(run.evaluation.read_text())
        seconds = run.record["seconds"]
    return {
        "method": recipe.method.name,
        "overrides": overrides,
        "backbone": recipe.backbone.name,
        "train_examples": report["trained"]["train_examples"],
        "steps": epochs * per_epoch,
        "epochs": round(epochs * per_epoch / steps, 2),
        "cpu_minutes_of_training": round(epochs * per_epoch * cost / 60, 2),
        "wall_seconds_of_training": seconds,
        "cpu_minutes_with_evaluation": round((time.process_time() - before) / 60, 2),
        "linear_probe": report["verdict"].get("linear_probe"),
        "knn": report["verdict"].get("knn"),
        "other_features": {name: found["verdict"] for name, found in report["other_features"].items()},
        "pretext": report["pretext"],
        "collapsed": report["trained"]["embedding"]["collapsed"],
        **origin(),
    }


def _seconds_per_step(recipe: Any) -> tuple[float, int]:
    """CPU seconds of one step, and the steps of an epoch."""
    from kzoo.runs.build import build_method, compile_method, open_sources

    source, _ = open_sources(recipe)
    steps = recipe.train.steps_per_epoch or source.size // recipe.train.batch_size
    method = build_method(recipe, source)
    compile_method(method, recipe, source)
    fit = {"batch_size": recipe.train.batch_size, "verbose": 0, "epochs": 1}
    method.fit(source, steps_per_epoch=1, **fit)
    costs = []
    for length in TIMED_STEPS:
        before = time.process_time()
        method.fit(source, steps_per_epoch=length, **fit)
        costs.append(time.process_time() - before)
    return (costs[1] - costs[0]) / (TIMED_STEPS[1] - TIMED_STEPS[0]), steps


def _within(recipe: Any, epochs: int) -> list[int]:
    """The milestones at the same shares of a shorter training."""
    shares = [milestone / recipe.train.epochs for milestone in recipe.optimizer.milestones]
    return sorted({round(share * epochs) for share in shares} - {0, epochs})


def main(
    names: Annotated[list[str] | None, typer.Argument(help="e.g. fashion_mnist/simclr; all that are missing")] = None,
    minutes: Annotated[float, typer.Option(help="CPU minutes of training for each")] = 5.0,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="in the named recipes; kept beside them")] = None,
    runs: Annotated[Path | None, typer.Option(help="folder where the runs stay, with their pictures")] = None,
) -> None:
    console = Console(highlight=False)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    every = sorted(
        f"{dataset}/{path.stem}" for dataset in DATASETS for path in (ROOT / "recipes" / dataset).glob("*.yaml")
    )
    for name in names or [name for name in every if name not in results]:
        console.rule(name)
        found = measure(name, overrides or [], minutes, runs, console)
        results[" ".join((name, *(overrides or [])))] = {"budget_cpu_minutes": minutes, **found}
        write_text(RESULTS, json.dumps(dict(sorted(results.items())), indent=1) + "\n")
    table = Table("recipe", "steps", "CPU min", "linear probe", "untrained", "says")
    for name, found in results.items():
        probe = found["linear_probe"] or {"trained": 0, "untrained": 0, "says": "no labels"}
        table.add_row(
            name,
            str(found["steps"]),
            f"{found['cpu_minutes_of_training']:.1f}",
            f"{probe['trained']:.1%}",
            f"{probe['untrained']:.1%}",
            probe["says"],
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
