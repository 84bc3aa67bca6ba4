"""`kzoo compare`: the evaluations of several runs beside each other, and beside their untrained backbones.

Without TensorFlow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from kzoo.errors import EvaluationError, RecipeError
from kzoo.system import disk
from kzoo.system.files import read_json

PROBES = {"knn": "kNN", "linear_probe": "linear probe", "low_shot": "few labels"}


def gather(folders: Sequence[Path]) -> dict[str, Any]:
    """What the runs found, in their order, as plain JSON: "runs", and "differs", what makes them unlike to compare.

    Raises EvaluationError where one is no run, or has not been evaluated.
    """
    runs = [_one(folder) for folder in folders]
    names = _names(folders)
    for run, name in zip(runs, names, strict=True):
        run["run"] = name
    return {"runs": runs, "differs": _differs(runs)}


def _one(folder: Path) -> dict[str, Any]:
    try:
        recipe = YAML(typ="safe", pure=True).load((folder / "recipe.yaml").read_text("utf-8"))
        what = {key: recipe[key]["name"] for key in ("method", "backbone", "data")}
    except (OSError, YAMLError, TypeError, KeyError, UnicodeDecodeError):
        raise EvaluationError(f"{folder}: no run; name folders that kzoo train made") from None
    report, record = read_json(folder / "evaluation.json"), read_json(folder / "kzoo.json")
    if not {"trained", "untrained", "verdict", "data"} <= report.keys():
        raise EvaluationError(f"{folder}: not evaluated yet; `kzoo evaluate {folder}`")
    known = {probe: report["verdict"][probe] for probe in PROBES if probe in report["verdict"]}
    trained, tested = report["trained"], record.get("test") or {}
    return {
        "folder": str(folder),
        **what,
        "feature": report.get("feature", "embedding"),
        "begins_with": (record.get("init_from") or {}).get("folder"),
        "passes": record.get("passes"),
        "tested_on": tested.get("digest") or report["data"],
        "test_examples": trained.get("labelled_test_examples"),
        "chance": (trained.get("chance") or {}).get("accuracy"),
        "settings": {
            probe: {key: trained[probe].get(key) for key in ("k", "temperature", "labels_per_class")} for probe in known
        },
        "probes": known,
        "effective_rank": {key: report[key]["embedding"]["effective_rank"] for key in ("trained", "untrained")},
        "width": trained["embedding"]["width"],
        "collapsed": trained["embedding"]["collapsed"],
    }


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' last parts; where two are alike, as they were given."""
    last = [folder.resolve().name for folder in folders]
    return [name if last.count(name) == 1 else str(folder) for name, folder in zip(last, folders, strict=True)]


def _differs(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Why the accuracies of these runs are no answers to one question, in lines."""
    lines = []
    for key, what in (("tested_on", "test examples"), ("test_examples", "number of test examples")):
        if any(run[key] != runs[0][key] for run in runs):
            lines.append(f"the runs have not the same {what}: compare each with its own untrained backbone only")
            break
    for probe, title in PROBES.items():
        asked = [run["settings"][probe] for run in runs if probe in run["settings"]]
        if any(one != asked[0] for one in asked):
            lines.append(f"{title}: the runs ask it with other settings")
    if any(run["feature"] != runs[0]["feature"] for run in runs):
        lines.append("the runs do not probe the same output of their backbones")
    return lines


def table(found: dict[str, Any]) -> Table:
    """For the terminal. The best trained value of each probe is bold, where the runs can be compared at all."""
    runs = found["runs"]
    shown = Table(title="Trained / untrained, %", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("run", overflow="fold")
    longest = max(len(word) for run in runs for word in (f"{run['method']},", run["backbone"]))
    shown.add_column("method, backbone", overflow="fold", min_width=min(longest, 24))
    asked = [probe for probe in PROBES if any(probe in run["probes"] for run in runs)]
    for probe in asked:
        shown.add_column(PROBES[probe], justify="right", no_wrap=True)
    shown.add_column("rank", justify="right", no_wrap=True)
    best = {probe: max(run["probes"][probe]["trained"] for run in runs if probe in run["probes"]) for probe in asked}
    for run in runs:
        cells = []
        for probe in asked:
            value = run["probes"].get(probe)
            cells.append(_cell(value, value and not found["differs"] and value["trained"] == best[probe]))
        rank = " / ".join(f"{run['effective_rank'][key]:.1f}" for key in ("trained", "untrained"))
        rank += " [red]collapsed[/]" if run["collapsed"] else ""
        shown.add_row(escape(run["run"]), escape(f"{run['method']}, {run['backbone']}"), *cells, rank)
    return shown


def _cell(value: dict[str, Any] | None, best: Any) -> str:
    if value is None:
        return ""
    trained = f"{100 * value['trained']:.1f}"
    colour = {"better than untrained": "green", "worse than untrained": "red"}.get(value["says"])
    trained = f"[{colour}]{trained}[/]" if colour else trained
    return f"{f'[bold]{trained}[/]' if best else trained} / {100 * value['untrained']:.1f}"


def draw(path: Path, found: dict[str, Any]) -> None:
    """As a PNG file. Raises RecipeError where it has another name, EvaluationError where it cannot be written."""
    if path.suffix.lower() != ".png":
        raise RecipeError(f"--picture {path}: the name must end in .png")
    from kzoo.evaluate import figures  # brings Matplotlib and scikit-learn

    rows = [(run["run"], run["chance"] or 0.0, run["probes"]) for run in found["runs"]]
    with disk.writing(path, EvaluationError):
        figures.runs_beside(path, rows, PROBES)
