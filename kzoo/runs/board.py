"""What TensorBoard shows of a run beside its curves: the evaluation, the pictures and the settings (HParams).

`tensorboard --logdir runs` has the runs beside each other.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from kzoo.recipe.schema import Recipe
from kzoo.runs.run import Run

FOLDER = "evaluation"  # in the run's logs; a later evaluation takes its place


def write(run: Run, recipe: Recipe, report: Mapping[str, Any]) -> None:
    """Write the figures of `evaluation.json`, the pictures in `figures/` and the recipe's settings for TensorBoard."""
    from tensorboard.plugins.hparams import api as hparams  # on use: what loads a backbone does without

    folder = run.logs / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    step = int(report["made_from"].get("step", 0))
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step):
        hparams.hparams(settings(recipe), trial_id=str(run.folder.absolute()))
        for name, value in figures(report):
            tf.summary.scalar(f"evaluation/{name}", value)
        tf.summary.text("evaluation", markdown(report))
        for path in sorted(run.figures.glob("*.png")):
            _picture(path)
    writer.close()


def settings(recipe: Recipe) -> dict[str, bool | int | float | str]:
    """The recipe as one level of "section.key", without what is not set; what HParams compares runs by."""
    return dict(_flat(recipe.model_dump(mode="json", exclude={"kzoo", "export", "evaluate"})))


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        elif value is not None:
            yield above + key, value if isinstance(value, bool | int | float | str) else str(value)


def figures(report: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """("knn_trained", 0.8), ("knn_untrained", 0.7), ...: probes, the embedding's rank, and the method's own figures."""
    for probe, found in report["verdict"].items():
        yield f"{probe}_trained", found["trained"]
        yield f"{probe}_untrained", found["untrained"]
    for which in ("trained", "untrained"):
        yield f"effective_rank_{which}", report[which]["embedding"]["effective_rank"]
    for name, value in report["pretext"].get("own", {}).items():
        if value is not None:
            yield name, value


def markdown(report: Mapping[str, Any]) -> str:
    """The table of the probes, as TensorBoard's page of texts draws it."""
    lines = ["| probe | trained | untrained | trained is |", "| --- | --- | --- | --- |"]
    for probe, found in report["verdict"].items():
        cells = f"{found['trained']:.1%} | {found['untrained']:.1%} | {found['says']}"
        lines.append(f"| {probe.replace('_', ' ')} | {cells} |")
    return "\n".join(lines)


def _picture(path: Path) -> None:
    tf.summary.image(path.stem, tf.io.decode_png(path.read_bytes(), channels=3)[None])
