"""Which backbone can be exported to which format, and how near it is: every image backbone at its check options.

    python benchmarks/formats.py [--json benchmarks/results/formats.json] [--only NAME]

Each backbone is exported in every format of `kzoo list formats`, and each is read by its own runtime in a process
without TensorFlow: the largest relative error of an embedding, or why the format is missing. At most 1e-4 is allowed.
What the file holds is not measured again.
"""

import json
from pathlib import Path
from typing import Any

from every_backbone import measure_all

from kzoo.export.layout import METADATA
from kzoo.export.proof import LIMIT
from kzoo.plugins import registry


def measure(_: Any, path: Path) -> tuple[Any, str, dict[str, Any]]:
    """The largest error of each format, or why it is missing."""
    formats = json.loads((path / METADATA).read_text())["formats"]
    found = {name: one.get("largest_error", one.get("refused")) for name, one in formats.items()}
    said = ", ".join(f"{name} {value}" for name, value in found.items())
    runtimes = {name: one["runtime"] for name, one in formats.items() if "runtime" in one}
    return found, said, {"limit": LIMIT, "runtimes": runtimes}


if __name__ == "__main__":
    every = [spec.name for spec in registry.formats()]
    measure_all(__doc__.splitlines()[0], "formats.json", "largest_error", every, measure)
