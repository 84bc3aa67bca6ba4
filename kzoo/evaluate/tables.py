"""What an evaluation found, as tables for the terminal."""

import re
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table


def pretext_table(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    """The pretext's own figures for the terminal: "held_out" beside "chance", then "own", then what "failed".

    None is a figure that is not a finite number, as JSON keeps it.
    """
    shown = Table(title="The pretext task", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("on held-out examples", no_wrap=True)
    shown.add_column("trained", justify="right")
    compared = any(name in figures["chance"] for name in {**figures["held_out"], **figures["own"]})
    if compared:
        shown.add_column("chance", justify="right")
    for name, value in {**figures["held_out"], **figures["own"]}.items():
        chance = figures["chance"].get(name)
        written = "no number" if value is None else f"{value:.4g}"
        beside = ["" if chance is None else f"{chance:.4g}"] if compared else []
        shown.add_row(name.replace("_", " "), written, *beside)
    for what in figures.get("failed", {}):
        shown.add_row(what, "failed")
    return shown


def table(report: Mapping[str, Any], title: str | None = None) -> Table:
    """What `compare` found, for the terminal."""
    title = title or "Trained beside untrained"
    trained, untrained, verdict = report["trained"], report["untrained"], report["verdict"]
    shown = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("on the test split", no_wrap=True)  # the last column gives way in a narrow terminal
    for heading in ("trained", "untrained", "change"):
        shown.add_column(heading, justify="right")
    told = bool(verdict) or trained["embedding"]["collapsed"]  # else that column would be empty
    if told:
        shown.add_column("trained is")
    labels = {
        "knn": lambda part: f"kNN, k={part['k']}",
        "linear_probe": lambda part: "linear probe",
        "low_shot": lambda part: f"linear, {part['labels_per_class']} labels/class",
    }
    for probe, found in verdict.items():
        colour = {"better": "green", "worse": "red"}.get(found["says"].split()[0], "default")
        shown.add_row(
            labels[probe](trained[probe]),
            f"{found['trained']:.1%}",
            f"{found['untrained']:.1%}",
            f"{100 * found['difference']:+.1f}",
            f"[{colour}]{re.sub(' (than|to) untrained', '', found['says'])}[/]",
        )
    new, old = trained["embedding"], untrained["embedding"]
    for label, key in (("spread, 0 to 1", "spread"), ("effective rank", "effective_rank")):
        width = f" of {new['width']}" if key == "effective_rank" else ""
        shown.add_row(label + width, f"{new[key]:.2f}", f"{old[key]:.2f}", f"{new[key] - old[key]:+.2f}")
    words = {True: "yes", False: "no"}
    alarm = "[red]collapsed[/]" if new["collapsed"] else ""
    shown.add_row("collapsed", words[new["collapsed"]], words[old["collapsed"]], "", *([alarm] if told else []))
    if verdict:
        shown.caption = (
            f"Chance: {trained['chance']['accuracy']:.1%} ({trained['chance']['way']}, of {trained['classes']}). "
            f"Probes learn from {trained['labelled_train_examples']:,} train examples, "
            f"are asked {trained['labelled_test_examples']:,} test examples."
        )
    else:
        reason = trained.get("no_probes", "the recipe asks for none")
        shown.caption = f"No probes: {reason}. Only the shape of the embedding was measured."
    return shown
