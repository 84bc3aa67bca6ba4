"""The replica check, turned on the peers: a loss on two processes beside the same loss on the joint batch, in float64.

On two processes each has half of the examples. The loss is then the mean of theirs, and the gradient, for weights that
all inputs go through, what data-parallel training makes of theirs: DistributedDataParallel's mean for lightly and
stable-pretraining, the sum of the gradients of loss / 2 here. Prints the relative errors of both, the largest over ten
draws for kzoo and of one draw for the peers, and keeps them in `results/peers_replicas.json`. Losses of the peers are
taken as they come, and with the options that they document for several processes, which are named.
"""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import typer
from oracles import ask_peers, draws, ours
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results" / "peers_replicas.json"
REPLICAS = 2
SHARED = ("queue", "directions")
DETACHED = ("target_0", "target_1", "taught", "images", "hidden", *SHARED)


def kzoo_errors(drawn: dict[str, list[dict[str, np.ndarray]]]) -> dict[str, dict[str, float]]:
    """The largest relative errors of each loss of kzoo on two replicas, over the draws."""
    import tensorflow as tf

    from kzoo import replicas
    from kzoo.distribute import devices

    strategy = devices.make_strategy("mirrored", REPLICAS, REPLICAS)
    with strategy.scope():
        losses = ours()
    found = {}
    for name, loss in losses.items():
        first = drawn[name][0]
        moving = [array for array in first if array not in DETACHED]
        width = first[moving[0]].shape[-1]

        def step(arrays: dict[str, tf.Tensor], loss: Any = loss, moving: Any = moving, width: int = width) -> Any:
            weights = tf.eye(width, dtype=tf.float64)
            with tf.GradientTape() as tape:
                tape.watch(weights)
                through = {name: tf.tensordot(arrays[name], weights, 1) for name in moving}
                value = loss({**arrays, **through}) / replicas.count()
            return replicas.total([value, tape.gradient(value, weights)])

        compiled, errors = tf.function(step, autograph=False), []
        for arrays in drawn[name]:
            joint = [np.asarray(each) for each in step({key: tf.constant(each) for key, each in arrays.items()})]

            def part(context: Any, arrays: dict[str, np.ndarray] = arrays) -> dict[str, tf.Tensor]:
                number = context.replica_id_in_sync_group
                cut = {key: each if key in SHARED else np.split(each, REPLICAS)[number] for key, each in arrays.items()}
                return {key: tf.constant(each) for key, each in cut.items()}

            shares = strategy.experimental_distribute_values_from_function(part)
            answers = strategy.run(compiled, args=(shares,))
            apart = [np.asarray(strategy.experimental_local_results(each)[0]) for each in answers]
            errors.append([np.abs(a - b).max() / np.abs(b).max() for a, b in zip(apart, joint, strict=True)])
        found[name] = dict(zip(("loss", "gradient"), map(float, np.max(errors, axis=0)), strict=True))
    return found


def main(
    peers_python: Annotated[Path, typer.Option(help="Python of the environment that holds peers.txt")],
    json_path: Annotated[Path, typer.Option("--json", help="where the results go")] = RESULTS,
) -> None:
    from record import origin

    from kzoo.distribute.devices import split_cpu
    from kzoo.system.files import write_text

    split_cpu(REPLICAS)
    drawn = draws()
    with Console(stderr=True).status("lightly and stable-pretraining"):
        peers = ask_peers(peers_python, {name: several[:1] for name, several in drawn.items()}, "--replicas")
    with Console(stderr=True).status("kzoo"):
        mine = kzoo_errors(drawn)
    found = {name: {"kzoo": errors, **peers["losses"][name]} for name, errors in mine.items()}
    versions = {"kzoo": version("kzoo"), "tensorflow": version("tensorflow"), **peers["versions"]}
    settings = {"processes": REPLICAS, "backend": "gloo", "precision": "float64"}
    write_text(json_path, json.dumps({**origin(), "versions": versions, **settings, "losses": found}, indent=1) + "\n")

    table = Table("loss", "who", "error of the loss", "of the gradient")
    for name, rows in found.items():
        for who, errors in rows.items():
            table.add_row(name if who == "kzoo" else "", who, f"{errors['loss']:.1e}", f"{errors['gradient']:.1e}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
