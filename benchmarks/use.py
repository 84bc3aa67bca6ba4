"""From a run to its use, for every image method: each step in a process of its own, as a user types it.

    python benchmarks/use.py [--json benchmarks/results/use.json] [METHOD...]

train       the method's recipe, cut to two steps on a few hundred examples
fine-tune   `kzoo.load_backbone(run)` with a head for the labels, all of it trained for thirty steps: the loss must fall
export      `kzoo export RUN --format ...`, all formats
verify      `kzoo verify EXPORT`
For each step: the seconds it took, or its last line where it failed. Methods that the file has are not done again.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import origin

from kzoo.plugins import registry
from kzoo.system.files import read_json, write_json

ROOT = Path(__file__).parents[1]
SETS = ("fashion_mnist", "photos")  # folders of recipes, the first that has the method counts
CUT = {
    "train.epochs": 1,
    "train.steps_per_epoch": 2,
    "train.batch_size": 32,
    "train.accumulate": 1,
    "evaluate.max_train": 200,
    "evaluate.max_test": 200,
    "evaluate.linear": "null",
    "evaluate.low_shot": "null",
    "optimizer.warmup_epochs": 0,
    "data.options.limit": 400,
    "export.formats": "[]",
}
TUNE = """
import sys, numpy as np, keras, kzoo
run, data, limit = sys.argv[1:]
backbone = kzoo.load_backbone(run)
source = kzoo.open_dataset(data, "train", limit=int(limit))
from kzoo.data.streams import evaluation_batches
side = backbone.input_shape[1] or source.image_shape[0]
[batch] = list(evaluation_batches(source, 64, side, np.arange(64)))
image, label = batch["image"].numpy(), batch["label"].numpy()
if image.shape[-1] != backbone.input_shape[-1]:
    image = np.repeat(image, 3, -1)
head = keras.layers.Dense(len(source.classes))(backbone.output["embedding"])
model = keras.Model(backbone.input, head)
model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
losses = model.fit(image, label, batch_size=64, epochs=30, verbose=0).history["loss"]
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
assert losses[-1] < losses[0]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "use.json")
    parser.add_argument("methods", nargs="*")
    chosen = parser.parse_args()
    rows = read_json(chosen.json).get("methods", {})
    formats = [spec.name for spec in registry.formats()]
    for spec in registry.methods():
        wanted = not chosen.methods or spec.name in chosen.methods
        if spec.modality != "image" or spec.name in rows or not wanted:
            continue
        recipe = next(path for name in SETS if (path := ROOT / "recipes" / name / f"{spec.name}.yaml").exists())
        rows[spec.name] = use(recipe, formats)
        print(f"{spec.name}: {rows[spec.name]}", flush=True)
        write_json(chosen.json, {**origin(), "formats": formats, "methods": rows})


def use(recipe: Path, formats: list[str]) -> dict[str, object]:
    """What became of each step; after one that failed, the rest is left out."""
    found: dict[str, object] = {"recipe": recipe.relative_to(ROOT).as_posix()}
    sets = [part for key, value in CUT.items() for part in ("--set", f"{key}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        kzoo = [sys.executable, "-m", "kzoo"]
        steps = {
            "train": [*kzoo, "train", str(recipe), *sets, "--run-dir", str(run)],
            "fine-tune": [sys.executable, "-c", TUNE, str(run), recipe.parent.name, str(CUT["data.options.limit"])],
            "export": [*kzoo, "export", str(run), "--format", ",".join(formats)],
            "verify": [*kzoo, "verify", str(run / "exports" / f"{recipe.parent.name}-{recipe.stem}")],
        }
        for name, call in steps.items():
            began = time.monotonic()
            environment = {**os.environ, "COLUMNS": "200", "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(call, capture_output=True, text=True, env=environment, cwd=folder)
            if done.returncode:
                found[name] = (done.stderr.strip().splitlines() or ["failed"])[-1][:300]
                break
            found[name] = round(time.monotonic() - began, 1)
            if name == "fine-tune":
                found["loss"] = done.stdout.strip().splitlines()[-1]
            if name == "export":
                [contract] = (run / "exports").glob("*/1/contract.json")
                written = json.loads(contract.read_text())["formats"]
                found["errors"] = {key: one.get("largest_error", one.get("refused")) for key, one in written.items()}
            if name == "verify":
                found["proven"] = re.findall(r"\(([a-z_, ]+)\)", done.stdout)[-1]
    return found


if __name__ == "__main__":
    main()
