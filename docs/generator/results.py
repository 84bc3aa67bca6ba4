"""Tables of what was measured, from `benchmarks/results/*.json`."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from statistics import mean, pstdev
from typing import Any

from generator import ROOT
from generator.markdown import table

RESULTS = ROOT / "benchmarks" / "results"

# A figure of the pretext on held-out examples, and what it is compared with: the first pair that a method has.
TASKS = (
    ("word_accuracy", "own", "unigram_accuracy"),
    ("accuracy", "own", "unigram_accuracy"),
    ("accuracy", "chance", "accuracy"),
    ("ranking", "chance", "ranking"),
    ("loss", "held_out", "marginal_loss"),
    ("loss", "held_out", "prior_loss"),
    ("reconstruction", "held_out", "variance"),
    ("loss", "held_out", "variance"),
    ("information", "chance", "information"),
)


@cache
def measured(name: str) -> Mapping[str, Any]:
    """What a benchmark found, by recipe or by method."""
    found = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found.get("methods", found.get("recipes", found))


def probes(dataset: str) -> str:
    """What `benchmarks/probe.py` found for the recipes of a dataset."""
    rows = []
    for name, result in measured("probe").items():
        if name.startswith(f"{dataset}/"):
            settings = "".join(f", `{part}`" for part in result.get("overrides", []))
            method = f"[`{result['method']}`](methods/{result['method']}.md){settings}"
            rows.append((method, f"`{result['backbone']}`", *_verdicts(result), _task(result["pretext"])))
    return table(("method", "backbone", "linear probe, %", "kNN, %", "its own task, beside no learning"), rows)


def probes_of(recipe: str) -> Iterator[tuple[str, str, str, str, str]]:
    """(settings, linear probe, kNN, own task, measured) of a recipe, as often as it was probed."""
    for name, result in measured("probe").items():
        if name.split(" ")[0] == recipe:
            settings = ", ".join(f"`{part}`" for part in result.get("overrides", [])) or "as it is"
            spent = f"{result['epochs']:g} epochs, {result['cpu_minutes_of_training']:.1f} CPU min, {result['date']}"
            yield (settings, *_verdicts(result), _task(result["pretext"]), spent)


def best_probe(recipe: str) -> str:
    """The linear probe and the kNN of a recipe in a few words; "" where it was not probed."""
    for _, linear, knn, _, _ in probes_of(recipe):
        return ", ".join(f"{name} {value}" for name, value in (("linear", linear), ("kNN", knn)) if value)
    return ""


def peers_on_two_processes() -> str:
    """What `benchmarks/peers_replicas.py` found for each loss, of kzoo and of its peers."""
    rows = []
    for name, found in measured("peers_replicas")["losses"].items():
        for who, errors in found.items():
            rows.append((name, who, *(f"{errors[what]:.1g}" for what in ("loss", "gradient"))))
    return table(("loss", "whose", "error of the loss", "error of the gradient"), rows)


def oracles() -> str:
    """What `benchmarks/oracles.py` found: the largest difference of each loss from a peer's, and why it differs."""
    rows = [
        (row["loss"], row["peer"], f"{row['difference']:.1g}", row.get("note", ""))
        for row in measured("oracles")["losses"]
    ]
    return table(("loss", "peer", "largest difference", "why"), rows)


def labels(method: str = "") -> str:
    """What `benchmarks/labels.py` found for a method, or for all, beside labels alone; "" where it found nothing."""
    found: dict[tuple[str, int, str], list[float]] = {}
    for row in measured("labels").values():
        case = (row["backbone"], row["per_class"], row["method"])
        found.setdefault(case, []).append(100 * row["test_accuracy"])
    rows = []
    for (backbone, per_class, name), accuracies in sorted(found.items()):
        if method in ("", name):
            alone = found.get((backbone, per_class, "supervised"), [])
            beside = f"{mean(accuracies) - mean(alone):+.1f}" if alone and name != "supervised" else ""
            spread = f"{mean(accuracies):.1f} ± {pstdev(accuracies):.1f}"
            rows.append((f"`{name}`", f"`{backbone}`", str(per_class), str(len(accuracies)), spread, beside))
    head = ("method", "backbone", "labels of each class", "seeds", "accuracy, %", "points above `supervised`")
    return table(head, rows)


def temporal() -> str:
    """What `benchmarks/temporal.py` found: each figure beside what costs nothing, bold where it is better."""
    rows = []
    for name, result in measured("temporal").items():
        for one in result["beside"]:
            value = f"{one['value']:.4g}"
            baseline = f"{_words(one['baseline'])}: " if isinstance(one["baseline"], str) else ""
            beside = f"{baseline}{one['worth']:.4g}"
            told = (f"`{name}`", _words(one["figure"]), f"**{value}**" if one["better"] else value, beside)
            rows.append((*told, f"{result['cpu_minutes']:.1f}"))
    return table(("recipe", "figure", "trained", "beside", "CPU minutes"), rows)


def _words(name: str) -> str:
    return name.replace("_", " ")


def formats() -> str:
    """What `benchmarks/formats.py` found: the largest relative error of each backbone in each format, or why none."""
    return _in_formats("backbone", measured("formats")["largest_error"])


def uses() -> str:
    """What `benchmarks/use.py` found for each image method: its loss in fine-tuning, the errors of its export."""
    rows = {}
    for method, found in measured("use").items():
        failed = next((f"{step}: {found[step]}" for step in _STEPS if isinstance(found.get(step), str)), "")
        proven = [name for name in found.get("proven", "").split(", ") if name]
        rows[method] = {
            "fine-tuning": found.get("loss", ""),
            **found.get("errors", {}),
            "verified": failed or ", ".join(proven),
        }
    return _in_formats("method", rows)


_STEPS = ("train", "fine-tune", "export", "verify")


def _in_formats(what: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each name; numbers are errors, what is not is said as it is."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    cells = [
        (
            f"`{name}`",
            *(f"{value:.0e}" if isinstance(value := row.get(column, ""), float) else value for column in columns),
        )
        for name, row in rows.items()
    ]
    return table((what, *columns), cells)


def replicas_of(method: str) -> str:
    """The largest difference that `benchmarks/replicas.py` found, in a sentence; "" where the method was not in it."""
    if not (row := measured("replicas").get(method)):
        return ""
    told = [f"{row[many]:.1g} on {many}" for many in ("2 replicas", "4 replicas", "2 workers") if many in row]
    listed = f"{', '.join(told[:-1])} and {told[-1]}"
    return f"largest difference of any loss or weight from one device, after ten steps in float64: {listed}"


def starts_of(recipes: list[str]) -> str:
    """The first loss of published recipes beside its closed form, which `benchmarks/recipes.py` measured."""
    rows = [
        (f"`{name}`", f"{row['measured']:.4g}", f"{row['expected']:.4g}", f"`{row['closed_form']}`")
        for name in recipes
        if (row := measured("recipes").get(name))
    ]
    return table(("recipe", "first loss", "closed form", "which is"), rows)


def _verdicts(result: Mapping[str, Any]) -> tuple[str, str]:
    return beside(result["linear_probe"]), beside(result["knn"])


def beside(verdict: Mapping[str, Any] | None) -> str:
    """Trained / untrained, in percent; bold where the difference is beyond noise."""
    if verdict is None:
        return ""
    trained = f"{100 * verdict['trained']:.1f}"
    better = verdict["says"] == "better than untrained"
    return f"{f'**{trained}**' if better else trained} / {100 * verdict['untrained']:.1f}"


def _task(pretext: Mapping[str, Mapping[str, float]]) -> str:
    for figure, where, other in TASKS:
        if figure in pretext["held_out"] and other in pretext[where]:
            reached, without = pretext["held_out"][figure], pretext[where][other]
            share = figure.endswith(("accuracy", "ranking"))
            told = [f"{100 * value:.1f} %" if share else f"{value:.3g}" for value in (reached, without)]
            return " ".join((figure.replace("_", " "), " / ".join(told)))
    if "accuracy" in pretext["held_out"]:  # of SimCLR and its like, where chance is the batch's matter
        return f"accuracy {100 * pretext['held_out']['accuracy']:.1f} %"
    return ""
