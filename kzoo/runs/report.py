"""What a trained run is worth: the honest table, the pictures, and the export."""

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from kzoo.data.source import Source
from kzoo.data.streams import evaluation_batches, training_stream
from kzoo.errors import EvaluationError, ExportError, NotKept
from kzoo.evaluate import figures
from kzoo.evaluate.features import Features, embed_all
from kzoo.evaluate.tables import pretext_table, table
from kzoo.evaluate.verdict import EvaluationSettings, compare, evaluate
from kzoo.export.contract import is_whole
from kzoo.export.layout import METADATA
from kzoo.export.write import export_backbone
from kzoo.method import Method
from kzoo.modality import Shown
from kzoo.plugins import registry, targets
from kzoo.recipe.schema import Recipe
from kzoo.runs import board
from kzoo.runs.build import build_method, input_shape, open_probed, open_sources, side, tested_on
from kzoo.runs.provenance import plugin_versions, versions
from kzoo.runs.run import Run
from kzoo.system import disk
from kzoo.system.console import marked
from kzoo.system.failures import short
from kzoo.system.files import read_json, write_json

_BATCH = 256  # images embedded at once
_PICTURES = 2000  # test images of which maps and neighbours are drawn
_HELD_OUT = 2000  # test examples that the pretext is asked about
_SHOWN = ("embedding.png", "neighbours.png")  # of the figures: in the card of an export
_TOLD = ("feature", "data", "trained", "untrained", "verdict")  # of the evaluation: in its contract

Sources = tuple[Source, Source | None]


def evaluate_run(
    folder: Path, console: Console, sources: Sources | None = None, recipe: Recipe | None = None
) -> dict[str, Any]:
    """Evaluate a finished run beside the untrained encoder it began with, under the same probes.

    Writes `evaluation.json` and the pictures of the embedding, prints the tables, and returns the report.
    sources: those of the recipe, where they are open already. recipe: that of the run with another section `evaluate`;
    it is written into the run with what it finds. Raises EvaluationError where training has not ended, and NotKept, at
    the end, where the run cannot be written.
    """
    run = Run(Path(folder))
    otherwise, recipe = recipe is not None, recipe or run.recipe
    train, test = sources or open_sources(recipe)
    trained = run.encoder(train, console)
    run.check_test(recipe, test, run.tested())
    comparisons, asked = probe(recipe, (train, test), trained, console)
    first, *others = recipe.evaluate.features
    report = comparisons[first]
    report["feature"] = first
    report["pretext"] = run.record.get("pretext", {})
    report["other_features"] = {feature: comparisons[feature] for feature in others}
    report["made_from"] = made_from(run, recipe)
    refused = _refused(run, report, {"recipe": recipe, "test": tested_on(recipe, test)} if otherwise else {})
    if any(report["pretext"].values()):
        console.print(pretext_table(report["pretext"]))
    for feature, comparison in comparisons.items():
        console.print(table(comparison, f"Trained beside untrained: {feature}" if others else None))
    if test is None:
        console.print("No test split: these figures are of the images the backbone was trained on.", style="yellow")
    with console.status("drawing the embedding"):
        _picture_embedding(run, asked, test or train, side(recipe, train), console)
    with _drawing(run.logs / "evaluation", console):
        board.write(run, recipe, report)
    if refused:
        raise NotKept(refused, report)
    return report


def probe(
    recipe: Recipe, sources: Sources, trained: keras.Model, console: Console
) -> tuple[dict[str, dict[str, Any]], dict[str, Features]]:
    """Probe a trained encoder beside the untrained one that the recipe begins with.

    Returns what `compare` finds, by feature, with "data", and the embeddings of the held-out split, or of the training
    data, by "trained" and "untrained", of the first feature.
    """
    train, test = sources
    encoders = {"trained": trained, "untrained": build_method(recipe, train).encoder}
    size = side(recipe, train)
    learnt = open_probed(recipe, train, test)
    wanted = recipe.evaluate
    settings = EvaluationSettings(
        knn_k=wanted.knn.k if wanted.knn else 0,
        knn_temperature=wanted.knn.temperature if wanted.knn else 0.07,
        linear=wanted.linear is not None,
        low_shot_labels=wanted.low_shot or 0,
        seed=recipe.seed,
    )
    asked: dict[str, Features] = {}
    reports: dict[str, dict[str, Any]] = {}
    with console.status("") as status:
        for title, encoder in encoders.items():
            status.update(f"embedding with the {title} backbone")
            known = held_out = embed_all(encoder, _batches(learnt, wanted.max_train, size, encoder), wanted.features)
            if test:
                held_out = embed_all(encoder, _batches(test, wanted.max_test, size, encoder), wanted.features)
            asked[title] = held_out[wanted.features[0]]
            reports[title] = {}
            for feature in wanted.features:
                status.update(f"probing the {title} backbone: {feature}")
                reports[title][feature] = evaluate(known[feature], held_out[feature], settings)
    data = {"train": learnt.name, "test": test.name if test else None, "held_out": test is not None}
    comparisons = {
        feature: {**compare(reports["trained"][feature], reports["untrained"][feature]), "data": data}
        for feature in wanted.features
    }
    return comparisons, asked


def _refused(run: Run, report: dict[str, Any], otherwise: Mapping[str, Any]) -> str:
    """Write `evaluation.json`, and the recipe that asks for it where that is another; "" or, where the disk refuses it,
    why: what was measured is shown all the same.
    """
    try:
        with disk.writing(run.folder, EvaluationError, "the figures are shown, not kept"):
            if otherwise:
                run.keep_recipe(otherwise["recipe"])
                run.note(test=otherwise["test"])
            write_json(run.evaluation, report)
    except EvaluationError as error:
        return str(error)
    return ""


def pretext_figures(
    run: Run, method: Method, train: Source, test: Source | None, console: Console
) -> dict[str, dict[str, Any]]:
    """How well the trained method solves its own task on held-out examples, and what its paper measures besides.

    Returns "held_out", the means over the test split (at most some two thousand examples) in inference mode; "chance",
    what some of them are worth without learning; "own", what `Method.extra_metrics` returns; and "failed", why any of
    these is missing: no figure of a method's own is worth a run, so what goes wrong with it is told in one line.
    """
    found: dict[str, dict[str, Any]] = {"held_out": {}, "chance": {}, "own": {}, "failed": {}}

    @contextmanager
    def asking(what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            found["failed"][what] = short(error)
            console.print(f"{run.folder}: no {what} of the method: {short(error)}", style="yellow", markup=False)

    with asking("chance"):
        found["chance"] = method.chance()
    with asking("held-out figures"), console.status("asking the pretext about held-out examples"):
        if test is not None and method.has_held_out_loss and test.size >= method.least_examples:
            size = min(run.recipe.train.batch_size, test.size)
            stream = training_stream(test, method.transform, batch_size=size, seed=run.recipe.seed)
            steps = max(1, min(test.size, _HELD_OUT) // size)
            step = tf.function(method.test_step, autograph=False)
            logs = [step(batch) for batch in stream.take(steps)]
            found["held_out"] = {key: float(np.mean([one[key] for one in logs])) for key in logs[0]}
    with asking("extra metrics"), console.status("asking the method for figures of its own"):
        found["own"] = {key: float(value) for key, value in method.extra_metrics(train, test).items()}
    return found


def picture_training(run: Run, method: Method, train: Source, test: Source | None, console: Console) -> None:
    """Draw what the pretext showed the model, what the model predicts for held-out examples, and how the loss fell."""
    with _drawing(run.figures / "views.png", console) as path:
        targets.modality(train.modality).show(path, pretext_examples(method, train, run.recipe.seed))
    with _drawing(run.figures / "answers.png", console) as path:
        shown = pretext_examples(method, test or train, run.recipe.seed, method.visualised_examples)
        if answered := method.visualise(shown.raw, shown.ready):
            figures.answers(path, answered)
            targets.modality(train.modality).animate(path.with_suffix(".webp"), answered)
    with _drawing(run.figures / "loss.png", console) as path, (run.logs / "metrics.csv").open(newline="") as file:
        rows = [{**row, "epoch": int(row["epoch"]) + 1} for row in csv.DictReader(file)]  # Keras counts from 0
        figures.loss_curve(path, rows)


@contextmanager
def _drawing(path: Path, console: Console) -> Iterator[Path]:
    """A picture to draw: no picture is worth a run, so whatever goes wrong with it is told in one line."""
    try:
        yield path
    except Exception as error:
        console.print(f"{path}: not drawn: {short(error)}", style="yellow", markup=False)


def pretext_examples(method: Method, source: Source, seed: int, count: int = 6) -> Shown:
    """The first examples of training as they are, and what the pretext makes of them."""
    count = min(count, source.size)
    stream = training_stream(source, lambda batch, keys: (batch, keys), batch_size=count, seed=seed)
    raw, keys = next(iter(stream))
    return Shown(raw, method.transform(raw, keys), count, source)  # of a few: tracing takes longer than doing it


def export_run(
    folder: Path, formats: Sequence[str], destination: Path | None, console: Console, sources: Sources | None = None
) -> list[Path]:
    """Export the trained encoder of a run, in all formats into one folder. Returns it; [] where no format is asked.

    formats: of `kzoo list formats`. destination: the folder for exports; by default `exports` in the run's folder.
    sources: those of the recipe, where they are open already.
    Raises PluginError where a format or what it needs is not installed, ExportError where nothing can be exported.
    """
    run = Run(Path(folder))
    recipe = run.recipe
    if not formats:
        return []
    source, _ = sources or open_sources(recipe)
    method = run.method(source, console)
    exports = destination or run.folder / "exports"
    with console.status(f"exporting: {', '.join(formats)}"), disk.writing(exports, ExportError):
        path = export_backbone(
            method.encoder,
            exports,
            name=recipe.name,
            size=input_shape(recipe, source)[:2],
            vocabulary=source.vocabulary,
            metadata=_facts(run, source),
            signatures=method.signatures(),
            bits=(source.census or {}).get("images", {}).get("bits") or 16,
            formats=formats,
            pictures=[picture for name in _SHOWN if (picture := run.figures / name).is_file()],
        )
    console.print(f"Exported to [bold]{marked(path)}[/bold]")
    for name, found in read_json(path / METADATA)["formats"].items():
        if "refused" in found:
            console.print(f"  {name}: not available: {found['refused']}", style="yellow", markup=False)
        else:
            error = f"largest relative error {found['largest_error']:.1e}"
            console.print(f"  {name}: {found['file']}, read again by {found['runtime']}, {error}", markup=False)
    return [path]


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    """What an evaluation of a run's weights would say it was made from, as this recipe asks for it."""
    settings = recipe.model_dump_json(include={"evaluate"}, exclude={"evaluate": {"every"}})
    return {**run.record.get("weights", {}), "evaluate": hashlib.sha256(settings.encode()).hexdigest()}


def exported(run: Run, formats: Sequence[str]) -> bool:
    """Whether the run holds an export in these formats of the weights that it has now, and whole."""
    for folder in (run.folder / "exports" / run.recipe.name).glob("*/"):
        contract = read_json(folder / METADATA)
        if contract.get("made_from") != run.record.get("weights") or not set(formats) <= contract["formats"].keys():
            continue
        if is_whole(folder):
            return True
    return not formats


def _facts(run: Run, source: Source) -> dict[str, Any]:
    """What a contract says of a run."""
    recipe, evaluation = run.recipe, read_json(run.evaluation)
    facts: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "made_from": run.record["weights"],
        "versions": versions(),
        "plugins": plugin_versions(),
        "trained_on": {"dataset": source.name, "split": recipe.data.split, "examples": source.size},
    }
    method, data = registry.find_method(recipe.method.name), registry.find_dataset(recipe.data.name)
    about = {"name": method.name, "summary": method.summary, "paper": method.paper, "labels": method.labels}
    facts["method"] = about
    facts["trained_on"] |= {key: value for key, value in (("source", data.source), ("licence", data.licence)) if value}
    if evaluation.get("made_from") == made_from(run, recipe):
        facts["evaluation"] = {key: evaluation[key] for key in _TOLD if key in evaluation}
    return facts


def _batches(source: Source, limit: int | None, size: int, encoder: keras.Model) -> tf.data.Dataset:
    """A source to embed: all of it, or a fixed random part, as sources are often sorted by class."""
    some: np.ndarray | None = None
    if limit is not None and limit < source.size:
        some = np.random.default_rng(0).permutation(source.size)[:limit]
    return evaluation_batches(source, _BATCH, size, some, key=encoder.inputs[0].name)


def _picture_embedding(run: Run, features: dict[str, Features], source: Source, size: int, console: Console) -> None:
    trained = features["trained"]
    rows = np.sort(np.random.default_rng(0).permutation(len(trained))[:_PICTURES])
    few = {title: found.take(rows) for title, found in features.items()}
    labels = few["trained"].labels
    names = source.classes
    pixels = None
    with _drawing(run.figures / "neighbours.png", console) as path:
        pixels = _pixels(source, few["trained"].ids, size)
        if pixels is not None:
            figures.neighbours(
                path, pixels, few["trained"].features, few["trained"].ids, labels, names, names=source.names
            )
    with _drawing(run.figures / "embedding.png", console) as path:
        maps = {title: found.features for title, found in few.items()}
        figures.embedding_map(path, maps, labels, names, thumbnails=pixels)


def _pixels(source: Source, ids: np.ndarray, size: int) -> np.ndarray | None:
    """A picture for each of some ids, float `[n, size, size, C]`; none where the modality has no pictures."""
    places = np.argsort(ids)  # the batches come in the order of the ids
    pixels = np.zeros((len(ids), size, size, source.image_shape[-1]), "float32") if source.image_shape else None
    done = 0
    for batch in evaluation_batches(source, _BATCH, size, ids):
        found = targets.modality(source.modality).thumbnails(batch)
        if found is None or pixels is None:
            return None
        pixels[places[done : done + len(found)]] = found
        done += len(found)
    return pixels
