"""What an export sees in an image file, beside what training sees: every image backbone, ten kinds of real files.

    python benchmarks/serve_bytes.py [--json benchmarks/results/serve_bytes.json] [--only NAME]

Each backbone is exported at its check options, and its largest difference between `serve_bytes` and the backbone on the
pixels of training's reader is written down, as a share of the embedding's largest value. At most 1 % is allowed.
What the file holds is not measured again.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from every_backbone import SIZE, measure_all
from PIL import Image
from skimage import data

from kzoo.export.parity import LIMIT, differences, photograph

PHOTOS = {
    "china": photograph(),
    "astronaut": Image.fromarray(data.astronaut()),
    "chelsea": Image.fromarray(data.chelsea()),
}


def measure(backbone: keras.Model, path: Path) -> tuple[Any, str, dict[str, Any]]:
    """Of each kind of file the largest difference on any photograph, or why it is refused."""
    serve = tf.saved_model.load(str(path)).signatures["serve_bytes"]

    def embed(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(backbone(pixels.astype(np.float32) / 255, training=False)["embedding"])

    found = {name: differences(serve, embed, (SIZE, SIZE, 3), photo) for name, photo in PHOTOS.items()}
    row = {
        kind: value if isinstance(value, str) else max(one[kind] for one in found.values())
        for kind, value in found["china"].items()
    }
    worst = max(value for value in row.values() if not isinstance(value, str))
    if worst > LIMIT:
        raise SystemExit(f"{backbone.name}: {worst:.1e} is more than {LIMIT:g}: {row}")
    return row, f"at most {worst:.1e}", {"photographs": list(PHOTOS), "limit": LIMIT}


if __name__ == "__main__":
    measure_all(__doc__.splitlines()[0], "serve_bytes.json", "largest_difference", ["saved_model"], measure)
