"""From a run to its use, for every image method, by the commands that a user types.

    python benchmarks/use.py [--json benchmarks/results/use.json] [METHOD...]

train       the method's recipe, cut to two steps on a few hundred examples
fine-tune   `kzoo.load_backbone(run)` with a head for the labels, all of it trained for thirty steps: the loss must fall
export      `kzoo export RUN --format ...`, all formats; each is read again in a clean process
verify      `kzoo verify EXPORT`, in a process of its own, which again begins a clean one for each format
The first three are steps of one process for each method: importing TensorFlow costs more than they do. For each step:
the seconds it took, or its last line where it failed. Methods that the file has are not done again.
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
    "evaluate": "{knn: null, linear: null, low_shot: null, max_train: 64, max_test: 64}",
    "optimizer.warmup_epochs": 0,
    "data.options.limit": 200,
    "export.formats": "[]",
}
STEPS = """
import json, sys, time
import numpy as np
from kzoo.cli.app import main

def command(*words):
    try:
        main([*words])
    except SystemExit as left:
        if left.code:
            raise

def step(name, work):
    began = time.monotonic()
    said = work()
    print("step", json.dumps([name, round(time.monotonic() - began, 1), said]), flush=True)

def tune():
    import keras, kzoo
    from kzoo.data.streams import evaluation_batches
    backbone = kzoo.load_backbone(run)
    source = kzoo.open_dataset(data, "train", limit=64)
    side = backbone.input_shape[1] or source.image_shape[0]
    [batch] = list(evaluation_batches(source, 64, side, np.arange(64)))
    image, label = batch["image"].numpy(), batch["label"].numpy()
    if image.shape[-1] != backbone.input_shape[-1]:
        image = np.repeat(image, 3, -1)
    head = keras.layers.Dense(len(source.classes))(backbone.output["embedding"])
    model = keras.Model(backbone.input, head)
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(image, label, batch_size=64, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0], losses
    return f"{losses[0]:.2f} to {losses[-1]:.2f}"

recipe, run, data, formats, *sets = sys.argv[1:]
step("train", lambda: command("train", recipe, "--run-dir", run, *sets))
step("fine-tune", tune)
step("export", lambda: command("export", run, "--format", formats))
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
        done = call(folder, "-c", STEPS, str(recipe), str(run), recipe.parent.name, ",".join(formats), *sets)
        steps = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("step ")]
        for name, seconds, said in steps:
            found |= {name: seconds, **({"loss": said} if said else {})}
        if done.returncode:
            failed = ("train", "fine-tune", "export")[len(steps)]
            return {**found, failed: last_line(done)}
        [contract] = (run / "exports").glob("*/1/contract.json")
        written = json.loads(contract.read_text())["formats"]
        found["errors"] = {key: one.get("largest_error", one.get("refused")) for key, one in written.items()}
        began = time.monotonic()
        done = call(folder, "-m", "kzoo", "verify", str(contract.parent))
        found["verify"] = last_line(done) if done.returncode else round(time.monotonic() - began, 1)
        if not done.returncode:
            found["proven"] = re.findall(r"\(([a-z_, ]+)\)", done.stdout)[-1]
    return found


def call(folder: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, cwd=folder)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or ["failed"])[-1][:300]


if __name__ == "__main__":
    main()
