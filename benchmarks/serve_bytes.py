"""What an export sees in an image file, beside what training sees: every image backbone, ten kinds of real files.

    python benchmarks/serve_bytes.py [--json benchmarks/results/serve_bytes.json] [--only NAME]

Each backbone is exported at its check options, and its largest difference between `serve_bytes` and the backbone on the
pixels of training's reader is written down, as a share of the embedding's largest value. At most 1 % is allowed.
What the file holds is not measured again.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from record import origin
from skimage import data

import kzoo
from kzoo.export.parity import LIMIT, differences, photograph
from kzoo.export.write import export_backbone
from kzoo.plugins import registry
from kzoo.system.files import write_json

ROOT = Path(__file__).parents[1]
SIZE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "serve_bytes.json")
    parser.add_argument("--only", default="*")
    chosen = parser.parse_args()
    photos = {
        "china": photograph(),
        "astronaut": Image.fromarray(data.astronaut()),
        "chelsea": Image.fromarray(data.chelsea()),
    }
    rows = json.loads(chosen.json.read_text())["largest_difference"] if chosen.json.exists() else {}
    for spec in registry.backbones(chosen.only):
        if spec.modality != "image" or spec.name in rows:
            continue
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        backbone = kzoo.build_backbone(spec.name, input_shape=(SIZE, SIZE, 3), **spec.check_options)
        with tempfile.TemporaryDirectory() as folder:
            path = export_backbone(backbone, Path(folder), name="check", metadata={})
            serve = tf.saved_model.load(str(path)).signatures["serve_bytes"]

            def embed(pixels: np.ndarray, backbone: keras.Model = backbone) -> np.ndarray:
                return np.asarray(backbone(pixels.astype(np.float32) / 255, training=False)["embedding"])

            found = {name: differences(serve, embed, (SIZE, SIZE, 3), photo) for name, photo in photos.items()}
        kinds = found["china"]
        rows[spec.name] = {
            kind: value if isinstance(value, str) else max(one[kind] for one in found.values())
            for kind, value in kinds.items()
        }
        worst = max(value for value in rows[spec.name].values() if not isinstance(value, str))
        print(f"{spec.name}: at most {worst:.1e}", flush=True)
        assert worst <= LIMIT, rows[spec.name]
        about = {"size": SIZE, "photographs": list(photos), "limit": LIMIT}
        write_json(chosen.json, {**origin(), **about, "largest_difference": rows})


if __name__ == "__main__":
    main()
