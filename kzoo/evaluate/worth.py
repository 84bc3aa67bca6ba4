"""What a trained backbone is worth beside the untrained one, in Markdown: for the cards of presets and of exports."""

from collections.abc import Mapping, Sequence
from typing import Any

_PROBES = {
    "knn": lambda part: f"{part['k']} nearest neighbours",
    "linear_probe": lambda part: "linear probe",
    "low_shot": lambda part: f"linear probe, {part['labels_per_class']} labels for each class",
}


def worth(report: Mapping[str, Any]) -> str:
    """A sentence on who was asked what, and the table.

    report: what `kzoo.evaluate.compare` finds, with "data": what was tested on, and what the probes learnt from.
    """
    trained, untrained, verdict, data = (report[key] for key in ("trained", "untrained", "verdict", "data"))
    if not verdict:
        return f"No probe was asked: {trained.get('no_probes', 'the recipe asks for none')}."
    rows: list[tuple[str, ...]] = []
    for probe, found in verdict.items():
        numbers = (f"{found['trained']:.1%}", f"{found['untrained']:.1%}", f"{100 * found['difference']:+.1f}")
        rows.append((_PROBES[probe](trained[probe]), *numbers, found["says"]))
    ranks = [one["embedding"]["effective_rank"] for one in (trained, untrained)]
    width = trained["embedding"]["width"]
    rows.append((f"effective rank, of {width}", *(f"{rank:.1f}" for rank in ranks), f"{ranks[0] - ranks[1]:+.1f}", ""))
    tested = f"`{data['test']}`" if data.get("held_out") else "a part of the training data that the probes did not see"
    said = (
        f"Accuracy on {trained['labelled_test_examples']:,} test examples of {tested}, beside the same backbone "
        f"untrained. The probes learn from {trained['labelled_train_examples']:,} examples of `{data['train']}`, "
        f"{trained['classes']} classes; chance is {trained['chance']['accuracy']:.1%} ({trained['chance']['way']})."
    )
    return said + "\n\n" + markdown_table(("probe", "trained", "untrained", "change", "trained is"), rows)


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ("---",) * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
