"""Measures what MoCo's queue of 65,536 keys adds to a training step of ResNet-18.

Two methods take turns on one machine, with the same initial weights and the same batch, held in memory:

    long    MoCo v2 as published: a step compares with 65,536 x 128 keys and replaces the oldest of them
    short   the same with a queue of one batch, the shortest there can be

Both encode queries and keys alike: what differs is the queue.
"""

import json
import os
import statistics
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
import typer
from record import origin
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from step import BATCH, CHANNELS, LEARNING_RATE, MOMENTUM, SIZE, WARM_UP, Contestant, Turn, fitted, paired_batch

import kzoo
from kzoo.runs.provenance import versions
from kzoo.system.files import write_text

LENGTHS = {"long": 65536, "short": BATCH}  # keys
MOST_ADDED = 0.10  # the target: what the long queue may add to a step, as a share of the short one's


def main(
    steps: Annotated[int, typer.Option(min=1, help="training steps in one turn")] = 3,
    repeats: Annotated[int, typer.Option(min=1, help="turns of each contestant")] = 8,
    backbone_width: Annotated[int, typer.Option(min=1, help="channels of the first stage; 64 is ResNet-18")] = 64,
    json_path: Annotated[Path, typer.Option("--json", help="file to write the figures to")] = Path(__file__).parent
    / "results"
    / "key_queue.json",
) -> None:
    """Time a step of MoCo v2 on ResNet-18 with the published queue and with one of a single batch, in turn."""
    console = Console()
    views = paired_batch()
    batch = {"id": views["id"], "seed": views["seed"], "query": views["view_0"], "key": views["view_1"]}
    data = tf.data.Dataset.from_tensors(batch).repeat()
    contestants = {name: contestant(length, backbone_width, data) for name, length in LENGTHS.items()}
    turns: dict[str, list[Turn]] = {name: [] for name in LENGTHS}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("warm-up", total=len(LENGTHS) * (1 + repeats))
        for take in contestants.values():
            take(WARM_UP)  # the first step also traces
            progress.advance(task)
        for repeat in range(repeats):
            progress.update(task, description=f"turn {repeat + 1} of {repeats}")
            # the order changes, so that neither always follows the other
            for name in sorted(LENGTHS, reverse=bool(repeat % 2)):
                turns[name].append(contestants[name](steps))
                progress.advance(task)

    seconds = {name: [turn.seconds / steps for turn in taken] for name, taken in turns.items()}
    cpu_seconds = {name: [turn.cpu_seconds / steps for turn in taken] for name, taken in turns.items()}
    figures = {
        "seconds_per_step": {name: statistics.median(values) for name, values in seconds.items()},
        "cpu_seconds_per_step": {name: statistics.median(values) for name, values in cpu_seconds.items()},
        # turns taken side by side are compared
        "added_share": statistics.median(a / b for a, b in zip(seconds["long"], seconds["short"], strict=True)) - 1,
    }
    console.print(table(figures, seconds))
    record = {
        **origin(),
        "versions": versions(),
        "settings": {
            "method": "moco_v2",
            "queue": LENGTHS,
            "backbone": {"name": "resnet18", "stem": "cifar", "width": backbone_width},
            "image": [SIZE, SIZE, CHANNELS],
            "batch_size": BATCH,
            "precision": "float32",
            "optimizer": {"name": "sgd", "learning_rate": LEARNING_RATE, "momentum": MOMENTUM},
            "steps": steps,
            "repeats": repeats,
        },
        "figures": figures,
        "target": {"added_share": MOST_ADDED},
        "seconds_per_step_of_each_turn": seconds,
        "cpu_seconds_per_step_of_each_turn": cpu_seconds,
    }
    json_path.parent.mkdir(parents=True, exist_ok=True)
    write_text(json_path, json.dumps(record, indent=2) + "\n")
    console.print(f"written to {json_path}", markup=False)


def contestant(length: int, backbone_width: int, data: tf.data.Dataset) -> Contestant:
    """MoCo v2 with a queue of so many keys."""
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("resnet18", input_shape=(SIZE, SIZE, CHANNELS), width=backbone_width)
    return fitted(kzoo.build_method("moco_v2", backbone, queue=length), data)


def table(figures: dict[str, Any], seconds: dict[str, list[float]]) -> Table:
    shown = Table(
        title=f"MoCo v2 on ResNet-18, {SIZE} px, {BATCH} images",
        caption=f"the long queue adds {figures['added_share']:+.1%}, target at most {MOST_ADDED:.0%}",
    )
    for heading in ("", "keys", "s/step", "fastest", "slowest", "CPU s/step"):
        shown.add_column(heading, justify="right" if heading else "left")
    for name, turns in seconds.items():
        values = (figures["seconds_per_step"][name], min(turns), max(turns), figures["cpu_seconds_per_step"][name])
        shown.add_row(name, f"{LENGTHS[name]:,}", *(f"{value:.3f}" for value in values))
    return shown


if __name__ == "__main__":
    typer.run(main)
