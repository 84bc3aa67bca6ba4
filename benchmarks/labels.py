"""What few labels give, alone and with the unlabelled images beside them: accuracy on held-out clothes.

Fashion-MNIST, 10,000 training images of which 10 or 100 of each class show their label, the test split's first 5,000;
a small convolutional or residual network from nothing; the same number of steps on batches of the same size for each
method, three seeds (of the choice of labels, the weights and the order). Each training is one row, so that a run goes
on where it was stopped; the table is printed from the rows.

    python benchmarks/labels.py [--per-class 10] [--backbone convnet4] [s4l_rotation sla ...]
"""

import itertools
import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from record import origin
from rich.console import Console
from rich.table import Table

from kzoo.system.files import write_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "labels.json"
STEPS, BATCH, RATE = 1000, 32, 2e-3
BACKBONES: dict[str, dict[str, Any]] = {"convnet4": {"width": 16}, "small_resnet": {}}
TRAIN, TEST = 10_000, 5_000
SEEDS = (0, 1, 2)
PER_CLASS = (10, 100)
METHODS: dict[str, tuple[float, dict[str, Any]]] = {  # the labelled share of a batch, and the options
    "supervised": (1.0, {"padding": 2}),
    "supervised_rotation": (1.0, {"padding": 2}),
    "s4l_rotation": (0.5, {"padding": 2}),
    "s4l_exemplar": (0.5, {"views": 4, "scale": (0.3, 1.0), "width": 128}),
    "sla": (1.0, {"padding": 2}),
    "sla_sd": (1.0, {"padding": 2}),
    "r_drop": (1.0, {"padding": 2, "dropout": 0.3}),
}


def measure(name: str, per_class: int, seed: int, network: str) -> dict[str, Any]:
    """One training: the method's accuracies, and what it cost."""
    import keras

    import kzoo
    from kzoo.data.labels import choose_labels, hide_labels, labels_of

    train = kzoo.open_dataset("fashion_mnist", "train", limit=TRAIN)
    test = kzoo.open_dataset("fashion_mnist", "test", limit=TEST)
    share, options = METHODS[name]
    seen = hide_labels(train, choose_labels(labels_of(train), train.classes, seed=seed, per_class=per_class), share)
    keras.utils.set_random_seed(seed)
    backbone = kzoo.build_backbone(network, train.image_shape, **BACKBONES[network])
    method = kzoo.build_method(name, backbone, data=seen, **options)
    method.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, STEPS)))
    began, processor = time.monotonic(), time.process_time()
    history = method.fit(seen, batch_size=BATCH, epochs=1, steps_per_epoch=STEPS, seed=seed, verbose=0)
    return {
        "method": name,
        "backbone": network,
        "per_class": per_class,
        "seed": seed,
        "steps": STEPS,
        "batch": BATCH,
        "labelled_share": share,
        **{key: round(value, 4) for key, value in method.extra_metrics(seen, test).items()},
        "training_accuracy": round(float(history.history["accuracy"][-1]), 4),
        "cpu_seconds": round(time.process_time() - processor, 1),
        "wall_seconds": round(time.monotonic() - began, 1),
        **origin(),
    }


def main(
    names: Annotated[list[str] | None, typer.Argument(help="methods; all where left out")] = None,
    per_class: Annotated[list[int] | None, typer.Option(help="labels of each class; 10 and 100")] = None,
    backbone: Annotated[str, typer.Option(help="convnet4 or small_resnet")] = "convnet4",
) -> None:
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for count in per_class or PER_CLASS:
        for seed in SEEDS:  # one seed of all methods before the next, so that what is there can be compared
            for name in names or METHODS:
                key = f"{name} {backbone} {count} {seed}"
                if key not in rows:
                    rows[key] = measure(name, count, seed, backbone)
                    print(key, rows[key]["test_accuracy"], rows[key]["cpu_seconds"], flush=True)
                    write_text(RESULTS, json.dumps(dict(sorted(rows.items())), indent=1) + "\n")
    table = Table("network", "labels", "method", "seeds", "accuracy", "above supervised", "CPU seconds")
    for network, count in itertools.product(BACKBONES, PER_CLASS):
        plain = _accuracies(rows, "supervised", network, count)
        for name in METHODS:
            found = _accuracies(rows, name, network, count)
            if not found:
                continue
            gains = [100 * (value - plain[seed]) for seed, value in found.items() if seed in plain]
            costs = [row["cpu_seconds"] for key, row in rows.items() if key.startswith(f"{name} {network} {count} ")]
            values = 100 * np.array(list(found.values()))
            gain = f"{np.mean(gains):+.1f} ± {np.std(gains):.1f}" if gains and name != "supervised" else ""
            spread = f"{values.mean():.1f} ± {values.std():.1f} %"
            table.add_row(network, str(count), name, str(len(found)), spread, gain, f"{np.mean(costs):.0f}")
    Console(highlight=False).print(table)


def _accuracies(rows: dict[str, Any], name: str, network: str, count: int) -> dict[int, float]:
    """Seed to accuracy."""
    prefix = f"{name} {network} {count} "
    return {row["seed"]: row["test_accuracy"] for key, row in rows.items() if key.startswith(prefix)}


if __name__ == "__main__":
    typer.run(main)
