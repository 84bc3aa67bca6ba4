"""What a preset is worth where labels are few: fine-tuned on 10 of each class, beside the same network from nothing.

Both are trained by `supervised` on the data of the preset, with the same labels, optimizer, order and number of steps,
three seeds (of the labels, the weights and the order), and asked the test split. Presets of images only: `supervised`
knows no text. Each training is one row, so that a run that is stopped goes on where it was.

    python benchmarks/finetune_presets.py [small_resnet.vicreg_fashion_mnist ...]
"""

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
RESULTS = ROOT / "benchmarks" / "results" / "finetune_presets.json"
PER_CLASS, STEPS, BATCH, RATE = 10, 300, 32, 1e-3
SEEDS = (0, 1, 2)
STARTS = ("preset", "nothing")
TEST = 5_000  # test examples, at most


def measure(name: str, start: str, seed: int) -> dict[str, Any]:
    """One training: its accuracy on held-out examples, and what it cost."""
    import keras

    import kzoo
    from kzoo.data.labels import choose_labels, hide_labels, labels_of
    from kzoo.plugins import registry
    from kzoo.plugins.locate import resource
    from kzoo.recipe.load import load
    from kzoo.runs.pretrained import Initial

    spec = registry.find_preset(name)
    options = load(resource(spec.recipe)).data.options
    train = kzoo.open_dataset(spec.data, "train", **options)
    few = {"limit": TEST} if "limit" in options else {}
    test = kzoo.open_dataset(spec.data, "test", **{**options, **few})
    seen = hide_labels(train, choose_labels(labels_of(train), train.classes, seed=seed, per_class=PER_CLASS), 1.0)
    keras.utils.set_random_seed(seed)
    backbone = kzoo.build_backbone(spec.backbone, spec.input_shape, **spec.backbone_options)
    if start == "preset":
        Initial(name).begin(backbone)
    method = kzoo.build_method("supervised", backbone, data=seen, padding=2, flip=0.0 if spec.data == "digits" else 0.5)
    method.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, STEPS)))
    began, processor = time.monotonic(), time.process_time()
    method.fit(seen, batch_size=BATCH, epochs=1, steps_per_epoch=STEPS, seed=seed, verbose=0)
    return {
        "preset": name,
        "data": spec.data,
        "start": start,
        "seed": seed,
        "per_class": PER_CLASS,
        "steps": STEPS,
        "batch": BATCH,
        "learning_rate": RATE,
        **{key: round(value, 4) for key, value in method.extra_metrics(seen, test).items()},
        "cpu_seconds": round(time.process_time() - processor, 1),
        "wall_seconds": round(time.monotonic() - began, 1),
        **origin(),
    }


def main(
    names: Annotated[list[str] | None, typer.Argument(help="presets; all of images where left out")] = None,
) -> None:
    from kzoo.plugins import registry

    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or [spec.name for spec in registry.presets() if spec.modality == "image"]:
        for seed in SEEDS:
            for start in STARTS:
                key = f"{name} {start} {seed}"
                if key not in rows:
                    rows[key] = measure(name, start, seed)
                    print(key, rows[key]["test_accuracy"], rows[key]["cpu_seconds"], flush=True)
                    write_text(RESULTS, json.dumps(dict(sorted(rows.items())), indent=1) + "\n")
    table = Table("preset", "fine-tuned", "from nothing", "gain")
    for name in dict.fromkeys(row["preset"] for row in rows.values()):
        tuned, plain = (
            np.array([100 * rows[key]["test_accuracy"] for seed in SEEDS if (key := f"{name} {start} {seed}") in rows])
            for start in STARTS
        )
        if len(tuned) == len(plain) == len(SEEDS):
            told = (f"{values.mean():.1f} ± {values.std():.1f}" for values in (tuned, plain, tuned - plain))
            table.add_row(name, *told)
    Console(highlight=False).print(table)


if __name__ == "__main__":
    typer.run(main)
