"""What keeps the embeddings of each method apart, shown by leaving it out.

Each control trains a recipe of `recipes/fashion_mnist` for a few hundred steps twice, as it is and without that part,
and keeps what has become of the projections that the loss sees, on held-out examples, of the backbone's embedding, and
of the linear probe. Without the part all projections must come near one point.

    python benchmarks/collapse.py [lejepa ...]
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from record import origin
from rich.console import Console
from rich.table import Table

from kzoo.system.files import write_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "collapse.json"
WITHOUT = {
    "lejepa": "method.options.sigreg=0",
    "vicreg": "method.options.variance=0",
}
PROJECTIONS = {"lejepa": "z", "vicreg": "z_0"}  # among what `forward` returns: [b, d], or [b, V, d] of several views
EXAMPLES = 1000
SHORT = [
    "train.epochs=4",
    "train.steps_per_epoch=75",
    "evaluate.low_shot=null",
    "evaluate.max_train=2000",
    "evaluate.max_test=2000",
    "export.formats=[]",
]


def outcome(name: str, overrides: list[str], console: Console) -> dict[str, Any]:
    """Train one recipe; returns what has become of it."""
    from kzoo.recipe.load import load
    from kzoo.runs.build import open_sources
    from kzoo.train.loop import train

    recipe = load(ROOT / "recipes" / "fashion_mnist" / f"{name}.yaml", [*SHORT, *overrides])
    source, test = open_sources(recipe)
    with tempfile.TemporaryDirectory(prefix="kzoo-collapse-") as folder:
        run = train(recipe, Path(folder) / "run", False, console)
        report = json.loads(run.evaluation.read_text())
        seconds, steps = run.record["seconds"], recipe.train.epochs * (recipe.train.steps_per_epoch or 0)
        method = trained(run, source)
    return {
        "overrides": overrides,
        "deviation": deviation(method, test, PROJECTIONS[name]),
        "embedding": report["trained"]["embedding"],
        "linear_probe": report["verdict"]["linear_probe"],
        "held_out": report["pretext"]["held_out"],
        "steps": steps,
        "seconds": seconds,
    }


def trained(run: Any, source: Any) -> Any:
    """The method of a run, from its newest checkpoint."""
    from kzoo.runs import checkpoint
    from kzoo.runs.build import build_method, compile_method

    method = build_method(run.recipe, source)
    compile_method(method, run.recipe, source)
    checkpoint.newest(run.checkpoints).load(checkpoint.state(method), recipe_hash=run.origin(source).recipe_hash)
    return method


def deviation(method: Any, test: Any, output: str) -> float:
    """The mean over units of the standard deviation of one view's projections, over held-out examples."""
    import numpy as np

    batch = next(iter(method.stream(test, batch_size=EXAMPLES, seed=0)))
    z = np.asarray(method.forward(batch, training=False)[output])
    return float(np.mean(np.std(z if z.ndim == 2 else z[:, 0], axis=0)))


def main(names: list[str]) -> None:
    console = Console(highlight=False)
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or WITHOUT:
        rows[name] = {
            "whole": outcome(name, [], console),
            "without": outcome(name, [WITHOUT[name]], console),
            **origin(),
        }
        write_text(RESULTS, json.dumps(rows, indent=1) + "\n")
    table = Table("recipe", "deviation", "linear probe", "untrained", "held out")
    for name, row in rows.items():
        for kind in ("whole", "without"):
            found = row[kind]
            table.add_row(
                " ".join([name, *found["overrides"]]),
                f"{found['deviation']:.4f}",
                f"{found['linear_probe']['trained']:.1%}",
                f"{found['linear_probe']['untrained']:.1%}",
                ", ".join(f"{key} {value:.4g}" for key, value in found["held_out"].items()),
            )
    console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
