"""Which backbone can be exported to which format, and how near it is: every image backbone at its check options.

    python benchmarks/formats.py [--json benchmarks/results/formats.json] [--only NAME]

Each backbone is exported in every format of `kzoo list formats`, and each is read by its own runtime in a process
without TensorFlow: the largest relative error of an embedding, or why the format is missing. At most 1e-4 is allowed.
What the file holds is not measured again.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from record import origin

import kzoo
from kzoo.export.layout import METADATA
from kzoo.export.proof import LIMIT
from kzoo.export.write import export_backbone
from kzoo.plugins import registry
from kzoo.system.files import write_json

ROOT = Path(__file__).parents[1]
SIZE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "formats.json")
    parser.add_argument("--only", default="*")
    chosen = parser.parse_args()
    formats = [spec.name for spec in registry.formats()]
    rows = json.loads(chosen.json.read_text())["largest_error"] if chosen.json.exists() else {}
    for spec in registry.backbones(chosen.only):
        if spec.modality != "image" or spec.name in rows:
            continue
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        backbone = kzoo.build_backbone(spec.name, input_shape=(SIZE, SIZE, 3), **spec.check_options)
        with tempfile.TemporaryDirectory() as folder:
            path = export_backbone(backbone, Path(folder), name="check", metadata={}, formats=formats)
            contract = json.loads((path / METADATA).read_text())
        found = {name: one.get("largest_error", one.get("refused")) for name, one in contract["formats"].items()}
        rows[spec.name] = found
        print(f"{spec.name}: " + ", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
        runtimes = {name: one["runtime"] for name, one in contract["formats"].items() if "runtime" in one}
        about = {"size": SIZE, "limit": LIMIT, "runtimes": runtimes}
        write_json(chosen.json, {**origin(), **about, "largest_error": rows})


if __name__ == "__main__":
    main()
