"""Checks the cost model of training over several workers, on one machine.

Each worker gets one core, its input pipeline too, as if it were one device. For 1, 2 and 4 workers and one global
batch:

    predicted = step of one worker alone on its part of the batch x workers per core (at least 1) + exchange
                (with the arithmetic of synchronised batch normalisation where there are several: no fused kernel)
    exchange  = the step's bytes (gradients, gathered projections, batch statistics) at the measured rate of all-reduce,
                + the measured time of an empty all-reduce for each exchange
    measured  = the step of all workers together

The workers are processes of MultiWorkerMirroredStrategy, which talk over the loopback interface: a machine's network is
slower, its cores are its own.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import typer
from record import origin
from rich.console import Console
from rich.table import Table

from kzoo.distribute.launch import local_cluster
from kzoo.layers import every_layer
from kzoo.system.files import write_text

RESULTS = Path(__file__).parent / "results" / "scaling.json"
WORKERS = (1, 2, 4)
BATCH, SIZE, WIDTH = 64, 32, 128  # examples of all workers together, pixels, of the projection
STEPS, WARM_UP = 12, 3
REDUCED = 1_000_000  # floats in the all-reduce that measures the rate


def work() -> None:
    """One worker: measure, and let the chief print."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(os.environ["KZOO_WORKER"]) % len(cores)]})

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)  # one computes, one waits for the others
    workers = len(json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]) if "TF_CONFIG" in os.environ else 1
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if workers > 1 else tf.distribute.get_strategy()

    import keras

    import kzoo

    if "KZOO_AS_ONE_OF" in os.environ:
        _compute_as_one_of(int(os.environ["KZOO_AS_ONE_OF"]))
    with strategy.scope():
        keras.utils.set_random_seed(0)
        backbone = kzoo.build_backbone("small_resnet", (SIZE, SIZE, 3))
        method = kzoo.build_method("simclr", backbone, projector=(WIDTH, WIDTH))
        method.compile(keras.optimizers.SGD(1e-3))
    batch = int(os.environ["KZOO_BATCH"])
    images = np.random.default_rng(0).integers(0, 256, (4 * BATCH, SIZE, SIZE, 3)).astype("uint8")
    watch = _Watch(keras)
    method.fit(images, batch_size=batch, epochs=1, steps_per_epoch=STEPS, verbose=0, callbacks=[watch.callback])
    found = {"step": watch.median(), "parameters": sum(int(np.prod(v.shape)) for v in method.trainable_variables)}
    norms = [layer for layer in every_layer(method) if isinstance(layer, keras.layers.BatchNormalization)]
    found["norm_layers"], found["norm_channels"] = len(norms), sum(int(layer.gamma.shape[0]) for layer in norms)
    if workers > 1:
        found["reduce"], found["empty"] = (_all_reduce(tf, strategy, size) for size in (REDUCED, 1))
    if "TF_CONFIG" not in os.environ or json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0:
        print("FOUND " + json.dumps(found), flush=True)


def _compute_as_one_of(workers: int) -> None:
    """Let one worker normalise batches as it does among several, without asking the others."""
    from kzoo.layers import BatchNormalization

    others = SimpleNamespace(
        replica_id_in_sync_group=0, num_replicas_in_sync=workers, all_reduce=lambda operation, value: value
    )
    fused = BatchNormalization._fused

    def normalise(layer: Any, x: Any, mean: Any = None, variance: Any = None) -> Any:
        return layer._synchronised(x, others) if mean is None else fused(layer, x, mean, variance)

    BatchNormalization._fused = normalise


class _Watch:
    """The seconds between the ends of steps."""

    def __init__(self, keras: Any):
        self.ends: list[float] = []
        self.callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: self.end(logs))

    def end(self, logs: Any) -> None:
        float(logs["loss"])  # wait for the step
        self.ends.append(time.perf_counter())

    def median(self) -> float:
        return statistics.median(np.diff(self.ends)[WARM_UP - 1 :])


def _all_reduce(tf: Any, strategy: Any, size: int) -> float:
    @tf.function
    def reduce() -> Any:
        def one() -> Any:
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.ones([size]))

        return strategy.run(one)

    times = []
    for _ in range(STEPS):
        began = time.perf_counter()
        np.asarray(strategy.experimental_local_results(reduce())[0])
        times.append(time.perf_counter() - began)
    return statistics.median(times[WARM_UP:])


def _run(workers: int, batch: int, as_one_of: int = 1) -> dict[str, Any]:
    environment = {**os.environ, "KZOO_BATCH": str(batch), "OMP_NUM_THREADS": "1"}
    if as_one_of > 1:
        environment["KZOO_AS_ONE_OF"] = str(as_one_of)
    configs = [{"TF_CONFIG": config} for config in local_cluster(workers)] if workers > 1 else [{}]
    running = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker"],
            env={**environment, **config, "KZOO_WORKER": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for number, config in enumerate(configs)
    ]
    said = [process.communicate()[0] for process in running]
    [line] = [line for text in said for line in text.splitlines() if line.startswith("FOUND ")]
    return json.loads(line.removeprefix("FOUND "))


def exchanged(parameters: int, norm_channels: int, batch: int) -> int:
    """Bytes that each worker contributes to the exchanges of one SimCLR step, in float32 (docs/scaling.md)."""
    gradients = 4 * parameters
    statistics_ = 2 * 2 * 4 * norm_channels  # mean and variance, forward and back
    projections = 2 * 2 * 4 * batch * WIDTH  # two views, gathered and their gradients
    return gradients + statistics_ + projections


def main(worker: Annotated[bool, typer.Option(hidden=True)] = False) -> None:
    if worker:
        work()
        return
    console, cores = Console(highlight=False), len(os.sched_getaffinity(0))
    results: list[dict[str, Any]] = []
    for workers in WORKERS:
        alone = _run(1, BATCH // workers, workers)
        found = alone if workers == 1 else _run(workers, BATCH)
        compute = alone["step"] * max(1.0, workers / cores)
        exchange = 0.0
        if workers > 1:
            rate = 4 * REDUCED / max(found["reduce"] - found["empty"], 1e-9)
            exchanges = 2 + 2 * found["norm_layers"] + 1  # gathers, statistics both ways, gradients
            size = exchanged(found["parameters"], found["norm_channels"], BATCH)
            exchange = size / rate + exchanges * found["empty"]
        results.append(
            {
                "workers": workers,
                "predicted_seconds": compute + exchange,
                "measured_seconds": found["step"],
                "compute_seconds": compute,
                "exchange_seconds": exchange,
                "empty_all_reduce_seconds": found.get("empty"),
                "megabytes_per_second": None if workers == 1 else rate / 1e6,
            }
        )
    table = Table("workers", "predicted", "measured", "of it exchange", "measured / predicted")
    for row in results:
        table.add_row(
            str(row["workers"]),
            f"{row['predicted_seconds']:.3f} s",
            f"{row['measured_seconds']:.3f} s",
            f"{row['exchange_seconds']:.3f} s",
            f"{row['measured_seconds'] / row['predicted_seconds']:.2f}",
        )
    console.print(table)
    settings = {"batch": BATCH, "size": SIZE, "backbone": "small_resnet", "method": "simclr", "steps": STEPS}
    write_text(RESULTS, json.dumps({"settings": settings, "results": results, **origin()}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
