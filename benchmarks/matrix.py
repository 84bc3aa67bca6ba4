"""Trains every bundled method one epoch with four kinds of backbone on two kinds of image, from the quickstart recipe.

    python benchmarks/matrix.py [--json benchmarks/results/matrix.json]

Only `--set` overrides change, as on the command line; what the file holds is not trained again. It shows that pieces
fit each other, not how well they learn.
"""

import argparse
import itertools
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from record import origin

from kzoo.recipe.load import load
from kzoo.runs import build

ROOT = Path(__file__).parents[1]
METHODS = {
    "simclr": "{projector: [128, 64]}",
    "moco_v1": "{queue: 64, groups: 4}",
    "moco_v2": "{queue: 64, groups: 4}",
    "rotation": "{}",
    "autoencoder": "{}",
}
BACKBONES = {
    "small_resnet": "{}",
    "vit_tiny": "{patch_size: 4, depth: 2}",
    "keras_cv/csp_darknet_tiny": "{}",
    "keras_applications/mobilenetv3_small": "{}",
}
DATASETS = {"digits": "{limit: 256}", "photos": "{stride: 64, size: 32}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "matrix.json")
    target = parser.parse_args().json
    rows = json.loads(target.read_text())["runs"] if target.exists() else []
    done = {(row["dataset"], row["backbone"], row["method"]) for row in rows}
    for dataset, backbone, method in itertools.product(DATASETS, BACKBONES, METHODS):
        if (dataset, backbone, method) in done:
            continue
        overrides = [
            f"data={{name: {dataset}, split: train, options: {DATASETS[dataset]}}}",
            f"backbone={{name: {backbone}, options: {BACKBONES[backbone]}}}",
            f"method={{name: {method}, options: {METHODS[method]}}}",
            "train={epochs: 1, batch_size: 32}",
        ]
        began = time.monotonic()
        recipe = load(ROOT / "recipes" / "quickstart.yaml", overrides)
        source, _ = build.open_sources(recipe)
        steps = source.size // recipe.train.batch_size
        model = build.build_method(recipe, source)
        build.compile_method(model, recipe, source)
        before = [variable.numpy() for variable in model.backbone.trainable_variables]
        stream = model.stream(source, batch_size=recipe.train.batch_size, seed=recipe.seed)
        loss = model.fit_batches(stream, steps_per_epoch=steps, verbose=0).history["loss"][-1]
        still = sum(
            np.array_equal(old, new) for old, new in zip(before, model.backbone.trainable_variables, strict=True)
        )
        rows.append(
            {"dataset": dataset, "images": list(source.image_shape), "backbone": backbone, "method": method}
            | {"steps": steps, "loss": round(loss, 4), "backbone_weights_unmoved": still}
            | {"seconds": round(time.monotonic() - began, 1)}
        )
        print(json.dumps(rows[-1]), flush=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps({**origin(), "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
