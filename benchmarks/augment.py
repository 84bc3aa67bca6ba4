"""Measures how many SimCLR views per second kzoo makes, beside lightly and torchvision.

    python -m venv PEERS && PEERS/bin/pip install -r benchmarks/peers.txt
    python benchmarks/augment.py --peers-python PEERS/bin/python

All get the same images in memory, at the size of the views, and make two views of each: at 32 px with SimCLR's settings
for CIFAR (strength 0.5, no blur), at 128 and 224 px with those for ImageNet (strength 1, blur for half of the views).
kzoo works in a `tf.data` map on batches. lightly works on one Pillow image at a time, once in its own process and once
in the two workers of a `DataLoader`; the faster of the two counts. torchvision's v2 works on tensors, with one draw for
a whole batch, which is not the same job: it is shown for comparison. The contestants take turns in one run.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import typer
from record import origin
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kzoo.augment import view
from kzoo.data import deterministic
from kzoo.random import example_keys, fold_in
from kzoo.runs.provenance import versions
from kzoo.system.files import write_text

HERE = Path(__file__).parent
SETTINGS = {  # size in pixels: images of a batch, and how many times lightly's views per second are asked for
    32: {"batch_size": 256, "target": 20, "small": True},
    128: {"batch_size": 64, "target": 4, "small": False},
    224: {"batch_size": 64, "target": 4, "small": False},
}
LIGHTLY = ("lightly, one process", "lightly, 2 workers")
CONTESTANTS = ("kzoo", *LIGHTLY, "torchvision, one draw per batch")


def main(
    peers_python: Annotated[Path, typer.Option(help="the Python of an environment with what peers.txt lists")],
    repeats: Annotated[int, typer.Option(min=1, help="turns of each contestant at each size")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="about how long a turn takes")] = 4.0,
    json_path: Annotated[Path, typer.Option("--json", help="file to write the figures to")] = HERE
    / "results"
    / "augment.json",
) -> None:
    """Time the making of SimCLR views by kzoo, lightly and torchvision, in turn."""
    console = Console()
    rates: dict[int, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder, Peers(peers_python) as peers:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("", total=len(SETTINGS) * len(CONTESTANTS) * (repeats + 1))
            for size, setting in SETTINGS.items():
                images = pictures(setting["batch_size"], size)
                file = Path(folder) / f"{size}.npy"
                np.save(file, images)

                def take_turn(name: str, batches: int, *, images=images, file=file, setting=setting) -> float:
                    if name == "kzoo":
                        return kzoo_turn(images, batches, setting["small"])
                    return peers.turn(name, file, setting["batch_size"], batches, setting["small"])

                batches: dict[str, int] = {}
                for name in CONTESTANTS:  # a first turn says how many batches fill the time
                    progress.update(task, description=f"{size} px, {name}, warm-up")
                    rate = take_turn(name, 2)
                    batches[name] = max(2, round(seconds * rate / 2 / setting["batch_size"]))
                    progress.advance(task)
                rates[size] = {name: [] for name in CONTESTANTS}
                for repeat in range(repeats):
                    for place in range(len(CONTESTANTS)):  # another one begins each time
                        name = CONTESTANTS[(repeat + place) % len(CONTESTANTS)]
                        progress.update(task, description=f"{size} px, {name}, turn {repeat + 1} of {repeats}")
                        rates[size][name].append(take_turn(name, batches[name]))
                        progress.advance(task)
        peer_versions = peers.versions

    figures = {size: summary(turns) for size, turns in rates.items()}
    console.print(table(figures))
    record = {
        **origin(),
        "versions": {"kzoo": versions(), "peers": peer_versions},
        "settings": {"repeats": repeats, "seconds": seconds, "sizes": SETTINGS},
        "figures": figures,
        "views_per_second_of_each_turn": rates,
    }
    json_path.parent.mkdir(parents=True, exist_ok=True)
    write_text(json_path, json.dumps(record, indent=2) + "\n")
    console.print(f"written to {json_path}", markup=False)


def pictures(count: int, size: int) -> np.ndarray:
    """uint8 `[count, size, size, 3]`: coarse structure and noise. What they show does not matter to the time."""
    generator = np.random.default_rng(size)
    coarse = generator.uniform(0, 200, (count, size // 8, size // 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (coarse + generator.uniform(0, 55, (count, size, size, 3))).astype(np.uint8)


def kzoo_turn(images: np.ndarray, batches: int, small: bool) -> float:
    """Views per second of a `tf.data` pipeline from single images in memory to batches of two views."""
    count, size = images.shape[:2]
    options = {"jitter": (0.4, 0.4, 0.4, 0.1), "blur_p": 0.0} if small else {}

    def two_views(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        keys = example_keys(0, 0, batch["id"])
        return {f"view_{i}": view(batch["image"], fold_in(keys, i), size, **options) for i in range(2)}

    data = tf.data.Dataset.from_tensor_slices({"image": images}).repeat().enumerate()
    data = data.map(lambda position, example: {**example, "id": position}).batch(count, drop_remainder=True)
    data = data.map(two_views, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    made = iter(deterministic(data))  # as every stream of kzoo's
    for _ in range(3):  # traces, and lets the pipeline fill
        next(made)
    began = time.perf_counter()
    for _ in range(batches):
        next(made)
    return 2 * count * batches / (time.perf_counter() - began)


class Peers:
    """The process in which the peers take their turns."""

    def __init__(self, python: Path):
        command = [str(python), str(HERE / "augment_peers.py")]
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise SystemExit(f"--peers-python {python}: {error.strerror}; give the Python of an environment") from error
        self.versions = self.answer()

    def __enter__(self) -> "Peers":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()

    def answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the peers' process stopped: is what benchmarks/peers.txt lists installed there?")
        return json.loads(line)

    def turn(self, contestant: str, images: Path, batch_size: int, batches: int, small: bool) -> float:
        request = {"contestant": contestant, "images": str(images), "batch_size": batch_size, "batches": batches}
        self.process.stdin.write(json.dumps({**request, "small": small}) + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        return answer["views"] / answer["seconds"]


# ---- the figures ----------------------------------------------------------------------------------------------------


def summary(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Medians of the turns. The ratio, to the faster lightly, is the median over turns taken side by side."""
    medians = {name: statistics.median(turns) for name, turns in rates.items()}
    fastest = max(LIGHTLY, key=medians.__getitem__)
    ratios = [ours / theirs for ours, theirs in zip(rates["kzoo"], rates[fastest], strict=True)]
    return {"views_per_second": medians, "kzoo_over_lightly": statistics.median(ratios), "faster_lightly": fastest}


def table(figures: dict[int, dict[str, Any]]) -> Table:
    shown = Table(title="SimCLR views per second")
    for heading in ("size", *CONTESTANTS, "kzoo / lightly", "target"):
        shown.add_column(heading, justify="right")
    for size, figure in figures.items():
        medians = (f"{figure['views_per_second'][name]:,.0f}" for name in CONTESTANTS)
        target = f"at least {SETTINGS[size]['target']}"
        shown.add_row(f"{size} px", *medians, f"{figure['kzoo_over_lightly']:.1f}", target)
    return shown


if __name__ == "__main__":
    typer.run(main)
