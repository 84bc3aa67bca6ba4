"""Whether a format returns what was recorded: asked in a process of its own, with the format's runtime alone."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from kzoo.errors import ExportError, printable
from kzoo.export import clean
from kzoo.export.layout import RECORDED
from kzoo.plugins import locate
from kzoo.specs import FormatSpec

LIMIT = 1e-4  # largest relative error
_SECONDS = 300


def prove(folder: Path, spec: FormatSpec, inputs: list[str]) -> float:
    """The largest relative error of a format beside the answers recorded in an export.

    inputs: which of the recorded arrays it takes; it must return the others, for one example and for all.
    Raises ExportError where the error is above `LIMIT`, or where it cannot be read.
    """
    module, _, function = spec.reader.partition(":")
    task: dict[str, Any] = {
        "module": str(locate.source_of(module)),
        "function": function,
        "file": str(folder / spec.file),
        "recorded": str(folder / RECORDED),
        "inputs": inputs,
        "blocked": ["kzoo", "keras", *(["tensorflow"] if spec.runtime != "tensorflow" else [])],
    }
    # -P: the script's folder, which has modules named like libraries, is not on its path
    call = [sys.executable, "-P", clean.__file__, json.dumps(task)]
    try:
        done = subprocess.run(call, capture_output=True, text=True, errors="replace", timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise ExportError(f"{spec.name}: {spec.runtime} did not answer within {_SECONDS} seconds") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
        raise ExportError(
            f"{spec.name}: {spec.runtime} cannot read it: {printable(last.replace(f'{folder}/', ''))[:200]}"
        )
    error = float(json.loads(done.stdout.splitlines()[-1])["largest_error"])
    if not error <= LIMIT:  # also for NaN
        said = f"{error:.2g}" if math.isfinite(error) else "no finite number"
        raise ExportError(f"{spec.name}: differs from the recorded answers by {said}, more than {LIMIT:g}, relatively")
    return error
