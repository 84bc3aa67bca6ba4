"""Every image backbone at its check options, exported: what `formats.py` and `serve_bytes.py` measure one by one."""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from record import origin

import kzoo
from kzoo.export.write import export_backbone
from kzoo.plugins import registry
from kzoo.system.files import write_json

SIZE = 64
Measure = Callable[[keras.Model, Path], tuple[Any, str, dict[str, Any]]]


def measure_all(purpose: str, file: str, key: str, formats: Sequence[str], measure: Measure) -> None:
    """Export and measure the backbones that `file` in the results does not hold yet, under `key`.

    measure: from a backbone and its export to what is found, the line that says so, and what holds for all of them.
    """
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / file)
    parser.add_argument("--only", default="*")
    chosen = parser.parse_args()
    rows = json.loads(chosen.json.read_text())[key] if chosen.json.exists() else {}
    for spec in registry.backbones(chosen.only):
        if spec.modality != "image" or spec.name in rows:
            continue
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        backbone = kzoo.build_backbone(spec.name, input_shape=(SIZE, SIZE, 3), **spec.check_options)
        with tempfile.TemporaryDirectory() as folder:
            path = export_backbone(backbone, Path(folder), name="check", metadata={}, formats=formats)
            rows[spec.name], said, about = measure(backbone, path)
        print(f"{spec.name}: {said}", flush=True)
        write_json(chosen.json, {**origin(), "size": SIZE, **about, key: rows})
