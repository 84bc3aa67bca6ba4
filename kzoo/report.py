"""What a trained run is worth: the honest table, the pictures, and the export."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rich.console import Console

from kzoo import figures
from kzoo.data import Source, evaluation_batches, training_stream
from kzoo.evaluate import EvaluationSettings, Features, compare, embed, evaluate, table
from kzoo.export import export_backbone
from kzoo.files import write_text
from kzoo.method import Method
from kzoo.recipe import Recipe
from kzoo.runs import Run, build_backbone, input_shape, open_sources, plugin_versions

_BATCH = 256  # images embedded at once
_PICTURES = 2000  # test images of which maps and neighbours are drawn


def evaluate_run(folder: Path, console: Console) -> dict[str, Any]:
    """Evaluate a finished run beside the untrained backbone it began with, under the same probes.

    Writes `evaluation.json` and the pictures of the embedding, prints the table, and returns the report.
    Raises EvaluationError where training has not ended.
    """
    run = Run(Path(folder))
    recipe = run.recipe
    train, test = open_sources(recipe)
    backbones = {"trained": run.backbone(train), "untrained": build_backbone(recipe, train)}
    size = input_shape(recipe, train)[0]
    wanted = recipe.evaluate
    settings = EvaluationSettings(
        knn_k=wanted.knn.k if wanted.knn else 0,
        knn_temperature=wanted.knn.temperature if wanted.knn else 0.07,
        linear=wanted.linear is not None,
        low_shot_labels=wanted.low_shot or 0,
        seed=recipe.seed,
    )
    features: dict[str, tuple[Features, Features]] = {}
    reports = {}
    with console.status("") as status:
        for title, backbone in backbones.items():
            status.update(f"embedding with the {title} backbone")
            known = embed(backbone, _batches(train, wanted.max_train, size))
            asked = embed(backbone, _batches(test, wanted.max_test, size)) if test else known
            features[title] = known, asked
            status.update(f"probing the {title} backbone")
            reports[title] = evaluate(known, asked, settings)
    report = compare(reports["trained"], reports["untrained"])
    report["data"] = {"train": train.name, "test": test.name if test else None, "held_out": test is not None}
    write_text(run.evaluation, json.dumps(report, indent=1) + "\n")
    console.print(table(report))
    if test is None:
        console.print("No test split: these figures are of the images the backbone was trained on.", style="yellow")
    with console.status("drawing the embedding"):
        _picture_embedding(run, {title: pair[1] for title, pair in features.items()}, test or train, size)
    return report


def picture_training(run: Run, method: Method, source: Source) -> None:
    """Draw what the pretext showed the model, and how the loss fell."""
    raw, shown = pretext_examples(method, source, run.recipe.seed)
    figures.views(run.figures / "views.png", raw, shown)
    with (run.logs / "metrics.csv").open(newline="") as file:
        rows = [{**row, "epoch": int(row["epoch"]) + 1} for row in csv.DictReader(file)]  # Keras counts from 0
    figures.loss_curve(run.figures / "loss.png", rows)


def pretext_examples(
    method: Method, source: Source, seed: int, count: int = 6
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The first training examples as they are, uint8 `[n, H, W, C]`, and every picture the pretext makes of them."""
    count = min(count, source.size)

    def both(batch: dict[str, tf.Tensor], seeds: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        return batch["image"], method.transform(batch, seeds)

    raw, ready = next(iter(training_stream(source, both, batch_size=count, seed=seed)))
    shown: dict[str, np.ndarray] = {}
    for name, value in ready.items():
        if value.dtype.is_floating and value.shape.rank == 4:
            several = value.shape[0] // count  # the pretext made so many pictures of each example
            for i in range(several):
                shown[name if several == 1 else f"{name} {i}"] = value.numpy()[i::several]
    return raw.numpy(), shown


def export_run(folder: Path, formats: list[str], destination: Path | None, console: Console) -> list[Path]:
    """Export the trained backbone of a run. Returns the folders written.

    formats: of "saved_model". destination: the folder for exports; by default `exports` beside the runs' folder.
    """
    run = Run(Path(folder))
    recipe = run.recipe
    source, _ = open_sources(recipe)
    written = []
    for format_name in formats:
        assert format_name == "saved_model", format_name  # the recipe and the command line check
        with console.status("exporting"):
            path = export_backbone(
                run.backbone(source),
                destination or run.folder / "exports",
                name=recipe.name,
                metadata=_facts(recipe, source),
            )
        console.print(
            f"Exported to [bold]{path}[/bold]: loaded again, it answered one image and three as the backbone does"
        )
        written.append(path)
    return written


def _facts(recipe: Recipe, source: Source) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "plugins": plugin_versions(),
        "trained_on": {"dataset": source.name, "examples": source.size},
    }


def _batches(source: Source, limit: int | None, size: int) -> tf.data.Dataset:
    batches = evaluation_batches(source, _BATCH, size)
    if limit is None or limit >= source.size:
        return batches
    # a fixed random part: sources are often sorted by class
    chosen = np.zeros(source.size, bool)
    chosen[np.random.default_rng(0).permutation(source.size)[:limit]] = True
    mask = tf.constant(chosen)
    return batches.map(lambda batch: {key: value[tf.gather(mask, batch["id"])] for key, value in batch.items()})


def _picture_embedding(run: Run, features: dict[str, Features], source: Source, size: int) -> None:
    trained = features["trained"]
    rows = np.sort(np.random.default_rng(0).permutation(len(trained))[:_PICTURES])
    few = {title: found.take(rows) for title, found in features.items()}
    labels = few["trained"].labels
    names = source.classes
    figures.embedding_map(
        run.figures / "embedding.png", {title: found.features for title, found in few.items()}, labels, names
    )
    pixels = _pixels(source, few["trained"].ids, size)
    figures.neighbours(
        run.figures / "neighbours.png", pixels, few["trained"].features, few["trained"].ids, labels, names
    )


def _pixels(source: Source, ids: np.ndarray, size: int) -> np.ndarray:
    """The images of some ids, float `[n, size, size, C]`."""
    wanted = {int(number): row for row, number in enumerate(ids)}
    pixels = np.zeros((len(ids), size, size, source.image_shape[-1]), "float32")
    for batch in evaluation_batches(source, _BATCH, size):
        for number, image in zip(batch["id"].numpy(), batch["image"].numpy(), strict=True):
            if int(number) in wanted:
                pixels[wanted[int(number)]] = image
    return pixels
