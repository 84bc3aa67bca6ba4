"""Trains, packs and collects the encoders of `plugins/presets`, one after another.

Each is a recipe of `recipes/` at a length of some CPU minutes; what it is worth is what its own evaluation says. A call
that was stopped goes on where it was; a preset that is in the package is not made again, unless named. Costs and
figures are kept in `results/presets.json`, and shown in the package's README.

    python benchmarks/presets.py [--runs DIR] [small_resnet.vicreg_fashion_mnist ...]
"""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from record import origin
from rich.console import Console
from rich.markdown import Markdown

from kzoo.presets import RECORD
from kzoo.system.files import read_json, write_text

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "plugins" / "presets"
HOME = PLUGIN / "src" / "kzoo_presets" / "presets"
RESULTS = ROOT / "benchmarks" / "results" / "presets.json"
PROBES = ("linear_probe", "knn", "low_shot")
PRESETS = {  # the recipe, and its epochs
    "small_resnet.vicreg_fashion_mnist": ("fashion_mnist/vicreg", 28),
    "small_resnet.dino_fashion_mnist": ("fashion_mnist/dino", 8),
    "small_resnet.lejepa_fashion_mnist": ("fashion_mnist/lejepa", 18),
    "small_resnet.barlow_twins_fashion_mnist": ("fashion_mnist/barlow_twins", 16),
    "resnet18.moco_v2_photos": ("photos/moco_v2", 16),
    "bert_tiny.simcse_python_docs": ("python_docs/simcse", 60),
    "dcgan_discriminator.context_encoder_photos": ("photos/context_encoder", 40),
    "small_resnet.simclr_digits": ("quickstart", 10),
    "convnet4.rotation_fashion_mnist": ("fashion_mnist/rotation", 14),
    "resnet18.barlow_twins_photos": ("photos/barlow_twins", 18),
    "small_resnet.moco_v2_fashion_mnist": ("fashion_mnist/moco_v2", 14),
    "resnet18.vicreg_photos": ("photos/vicreg", 18),
}


def call_of(name: str, run: str) -> list[str]:
    """What trains it."""
    recipe, epochs = PRESETS[name]
    changes = ["--set", f"train.epochs={epochs}", "--set", "export.formats=[]"]
    return ["train", f"recipes/{recipe}.yaml", *changes, "--run-dir", run, "--resume"]


def make(name: str, runs: Path) -> None:
    """Train it as far as it is not, and put it into the package."""
    run, cost = runs / name, runs / f"{name}.json"
    done = json.loads(cost.read_text()) if cost.exists() else {"cpu_minutes": 0.0}
    if read_json(run / "kzoo.json").get("status") != "finished":
        before = _cpu_minutes()
        try:
            _kzoo(*call_of(name, str(run)))
        finally:
            done["cpu_minutes"] = round(done["cpu_minutes"] + _cpu_minutes() - before, 1)
            run.parent.mkdir(parents=True, exist_ok=True)
            write_text(cost, json.dumps(done))
    if (HOME / name).exists():
        shutil.rmtree(HOME / name)
    _kzoo("pack", str(run), "--name", name, "--into", str(PLUGIN), "--licence", "Apache-2.0")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    recipe, epochs = PRESETS[name]
    record = json.loads((HOME / name / RECORD).read_text())
    verdict = json.loads((run / "evaluation.json").read_text())["verdict"]
    if record["figures"]["verdict"] != verdict:
        raise SystemExit(f"{name}: the figures of the package are not those of {run / 'evaluation.json'}")
    results[name] = {
        "recipe": recipe,
        "epochs": epochs,
        "steps": record["made_from"]["step"],
        **done,
        **verdict,
        **origin(),
    }
    write_text(RESULTS, json.dumps(dict(sorted(results.items())), indent=1) + "\n")


def _kzoo(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "kzoo", *arguments], cwd=ROOT, check=True)


def _cpu_minutes() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) / 60


def main(
    names: Annotated[list[str] | None, typer.Argument(help="presets; all that are missing where left out")] = None,
    runs: Annotated[Path, typer.Option(help="where the runs are kept")] = ROOT / "runs" / "presets",
) -> None:
    for name in names or [name for name in PRESETS if not (HOME / name).exists()]:
        make(name, runs.absolute())
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    page = PLUGIN / "README.md"
    write_text(page, with_table(page.read_text(), results))
    Console(highlight=False).print(Markdown("\n".join(rows(results))))


def rows(results: dict[str, Any]) -> list[str]:
    """The table of all presets, in Markdown."""
    lines = [
        "| preset | recipe, epochs | CPU minutes | linear probe | kNN | linear, 10 labels |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, found in results.items():
        told = [f"{100 * found[one]['trained']:.1f} / {100 * found[one]['untrained']:.1f}" for one in PROBES]
        made = f"`{found['recipe']}`, {found['epochs']}"
        lines.append(f"| `{name}` | {made} | {found['cpu_minutes']:.1f} | {' | '.join(told)} |")
    return lines


def with_table(text: str, results: dict[str, Any]) -> str:
    """A README whose section on what there is holds the table, and nothing else."""
    before, heading, rest = text.partition("## What there is\n")
    _, following, after = rest.partition("\n## ")
    said = (
        "Accuracy in %, trained / untrained, on held-out examples: what `kzoo train` measured when it ended.\n"
        "The minutes are of all cores together, with the evaluation."
    )
    return "".join((before, heading, "\n", "\n".join(rows(results)), "\n\n", said, "\n", following, after))


if __name__ == "__main__":
    typer.run(main)
