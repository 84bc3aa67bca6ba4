"""Proves that two workers train like one process: every registered method, ten steps, in float64.

Prints and keeps the largest difference of any step's loss and of any weight, in `results/workers.json`. As a worker
(`python benchmarks/workers.py --into FILE NAME ...`, with TF_CONFIG) it trains the named methods and leaves the traces.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent))

import typer
from rich.console import Console
from rich.table import Table

from kzoo.launch import local_cluster

RESULTS = Path(__file__).parent / "results" / "workers.json"
STEPS, BATCH = 10, 32
TOLERANCE = 1e-5


def train(names: list[str], into: Path) -> None:
    """Train each method as this process' share of the workers that TF_CONFIG names."""
    from kzoo import devices, registry

    strategy = devices.make_strategy("auto", None, BATCH)

    import keras

    from kzoo.testing.replicas import build_in_float64, trace
    from kzoo.testing.subjects import MethodSubject

    traces = {}
    for name in names:
        setup = MethodSubject(registry.find_method(name)).setup
        method = build_in_float64(setup.build, strategy, steps=STEPS)
        figures: list[dict[str, float]] = []
        keep = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, figures=figures: figures.append(
                {k: float(v) for k, v in logs.items()}
            )
        )
        method.fit(setup.source(), batch_size=BATCH, steps_per_epoch=STEPS, epochs=1, verbose=0, callbacks=[keep])
        traces[name] = trace(method, figures)
    into.write_bytes(pickle.dumps(traces))


def differences(names: list[str], workers: int = 2) -> dict[str, dict[str, float]]:
    """For each method the largest difference between so many workers and one process, and between the workers."""
    with tempfile.TemporaryDirectory() as folder:
        plain = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
        environments = [plain, *({**plain, "TF_CONFIG": config} for config in local_cluster(workers))]
        files = [Path(folder, f"{number}.pickle") for number in range(workers + 1)]
        running = [
            subprocess.Popen(
                [sys.executable, __file__, "--into", str(file), *names], env=environment, stderr=subprocess.PIPE
            )
            for file, environment in zip(files, environments, strict=True)
        ]
        for process in running:
            _, said = process.communicate()
            if process.returncode:
                raise RuntimeError(said.decode(errors="replace")[-2000:])
        one, *several = [pickle.loads(file.read_bytes()) for file in files]
    return {
        name: {
            "from one process": max(other[name].distance(one[name]) for other in several),
            "between workers": max(other[name].distance(several[0][name]) for other in several),
        }
        for name in names
    }


def main(
    names: Annotated[list[str] | None, typer.Argument(help="methods; all that are registered")] = None,
    into: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    if into is not None:
        train(names or [], into)
        return
    from record import origin

    from kzoo import registry
    from kzoo.files import write_text

    names = names or [spec.name for spec in registry.methods()]
    found = differences(names)
    table = Table("method", "from one process", "between workers")
    for name, row in found.items():
        table.add_row(name, *(f"{row[key]:.2g}" for key in ("from one process", "between workers")))
    Console().print(table)
    write_text(RESULTS, json.dumps({"steps": STEPS, "workers": 2, "methods": found, **origin()}, indent=1) + "\n")
    if failed := [name for name, row in found.items() if not row["from one process"] <= TOLERANCE]:
        raise SystemExit(f"differ by more than {TOLERANCE:g}: {', '.join(failed)}")


if __name__ == "__main__":
    typer.run(main)
