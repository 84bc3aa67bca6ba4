"""Proves that replicas and workers train like one device: every registered method, ten steps, in float64.

Prints the largest difference of any step's loss and of any weight, and keeps them as they come in
`results/replicas.json`; a method that is there is not trained again, unless named. As one of the processes
(`python benchmarks/replicas.py --into FILE --devices N NAME ...`, perhaps with TF_CONFIG) it trains the named methods
and leaves the traces.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent))

import typer
from rich.console import Console
from rich.table import Table

from kzoo.distribute.launch import local_cluster

if TYPE_CHECKING:
    from kzoo.testing.replicas import Trace

RESULTS = Path(__file__).parent / "results" / "replicas.json"
STEPS, BATCH = 10, 16
TOLERANCE = 1e-5
TOGETHER = 6  # methods trained by one process


# name: how many logical devices a process has, how many processes
CASES = {"2 replicas": (2, 1), "4 replicas": (4, 1), "2 workers": (1, 2)}


def train(names: list[str], devices: int, into: Path) -> None:
    """Train each method on this process' devices, or as its share of the workers that TF_CONFIG names."""
    from kzoo.distribute import devices as machine
    from kzoo.plugins import registry

    strategy = machine.make_strategy("mirrored" if devices > 1 else "auto", devices if devices > 1 else None, BATCH)

    from kzoo.testing.replicas import train_under
    from kzoo.testing.subjects import MethodSubject

    traces = {}
    for name in names:
        setup = MethodSubject(registry.find_method(name)).setup
        traces[name] = train_under(
            strategy, setup.build, setup.source(), batch_size=BATCH, steps=STEPS, optimizer=setup.optimizer
        )
    into.write_bytes(pickle.dumps(traces))


def run(names: list[str], devices: int, workers: int) -> "list[dict[str, Trace]]":
    """The traces that each process leaves, by method."""
    plain = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
    configs = [{"TF_CONFIG": config} for config in local_cluster(workers)] if workers > 1 else [{}]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.pickle") for number in range(workers)]
        call = [sys.executable, __file__, *names, "--devices", str(devices), "--into"]
        running = [
            subprocess.Popen([*call, str(file)], env={**plain, **config}, stderr=subprocess.PIPE)
            for file, config in zip(files, configs, strict=True)
        ]
        for process in running:
            _, said = process.communicate()
            if process.returncode:
                raise RuntimeError(said.decode(errors="replace")[-2000:])
        return [pickle.loads(file.read_bytes()) for file in files]


def differences(names: list[str], tell: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """For each method the largest difference between each case and one device, and "between copies" of any case.

    tell: is told what begins.
    """
    tell("one device")
    (one,) = run(names, 1, 1)
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for case, (devices, workers) in CASES.items():
        tell(case)
        several = run(names, devices, workers)
        for name, row in found.items():
            row[case] = max(process[name].distance(one[name]) for process in several)
            copies = [max(process[name].spread, process[name].distance(several[0][name])) for process in several]
            row["between copies"] = max(row.pop("between copies", 0.0), *copies)
    return found


def main(
    names: Annotated[list[str] | None, typer.Argument(help="methods; all that are registered")] = None,
    devices: Annotated[int, typer.Option(hidden=True)] = 1,
    into: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    if into is not None:
        train(names or [], devices, into)
        return
    from record import origin

    from kzoo.plugins import registry
    from kzoo.system.files import write_text

    kept = _kept()
    names = names or [spec.name for spec in registry.methods() if spec.name not in kept]
    with Console(stderr=True).status("") as status:
        for first in range(0, len(names), TOGETHER):
            some = names[first : first + TOGETHER]
            found = differences(some, lambda case, some=some: status.update(f"{case}: {', '.join(some)}"))
            kept = {**_kept(), **{name: {**row, **origin()} for name, row in found.items()}}
            settings = {"steps": STEPS, "batch": BATCH, "precision": "float64"}
            write_text(RESULTS, json.dumps({**settings, "methods": dict(sorted(kept.items()))}, indent=1) + "\n")
    columns = [*CASES, "between copies"]
    table = Table("method", *columns)
    for name, row in kept.items():
        table.add_row(name, *(f"{row[column]:.2g}" for column in columns))
    Console().print(table)
    if failed := [name for name, row in kept.items() if not max(row[column] for column in columns) <= TOLERANCE]:
        raise SystemExit(f"differ by more than {TOLERANCE:g}: {', '.join(failed)}")


def _kept() -> dict[str, dict[str, Any]]:
    """What was found before, by method."""
    return json.loads(RESULTS.read_text())["methods"] if RESULTS.exists() else {}


if __name__ == "__main__":
    typer.run(main)
