"""Train a recipe: from the checked recipe to a finished run."""

import csv
import time
import warnings
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from kzoo import checkpoint, devices, optimizers
from kzoo.data import Source
from kzoo.errors import CheckpointError, TrainingError
from kzoo.method import Method
from kzoo.plugins import load_plugins
from kzoo.recipe import Recipe, recipe_hash
from kzoo.report import evaluate_run, export_run, picture_training, pretext_figures
from kzoo.runs import Run, build_method, open_sources, plugin_versions


def train(recipe: Recipe, run_dir: Path | None, resume: bool, console: Console) -> Run:
    """Train a recipe to its last epoch, then evaluate and export it.

    run_dir: the run's folder; by default `runs/<name>`. resume: go on from the newest checkpoint that verifies.
    Raises CheckpointError (the folder holds a run already, or none that can be resumed) and what training may raise.
    """
    run = Run(run_dir or Path("runs") / recipe.name)
    if (run.folder / "recipe.yaml").exists() and not resume:
        raise CheckpointError(f"{run.folder}: holds a run already; add --resume, or another --run-dir")
    strategy = devices.make_strategy(recipe.train.strategy, recipe.train.devices, recipe.train.batch_size)
    source, test = sources = open_sources(recipe)
    steps = recipe.train.steps_per_epoch or source.size // recipe.train.batch_size
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.train.precision)
    try:
        with strategy.scope():
            method = build_method(recipe, source)
            compile_method(method, recipe, steps)
    finally:
        keras.config.set_dtype_policy(policy)

    identity = recipe_hash(recipe)
    start = _resume(run, method, identity) if resume else 0
    _start(run, recipe, devices.describe(strategy))
    console.print(_plan(recipe, run, method, source, devices.describe(strategy), steps))
    began = time.monotonic()
    if start < recipe.train.epochs * steps:
        _fit(run, recipe, method, source, steps, start, identity, console)
    run.save_encoder(method.encoder)
    run.note(status="trained", seconds=round(time.monotonic() - began, 1))
    picture_training(run, method, source, test)
    run.note(pretext=pretext_figures(run, method, source, test, console))
    evaluate_run(run.folder, console, sources)
    export_run(run.folder, list(recipe.export.formats), None, console, sources)
    run.note(status="finished")
    console.print(f"\nEverything is in [bold]{run.folder}[/bold]")
    return run


def compile_method(method: Method, recipe: Recipe, steps_per_epoch: int) -> None:
    """Give a method its recipe's optimizer; inside the strategy's scope."""
    settings = recipe.train
    optimizer = optimizers.build(
        recipe.optimizer, batch_size=settings.batch_size, steps_per_epoch=steps_per_epoch, epochs=settings.epochs
    )
    method.compile(
        optimizer,
        clip_norm=recipe.optimizer.clip_norm,
        clip_tensor_norm=recipe.optimizer.clip_tensor_norm,
        accumulate=settings.accumulate,
        total_steps=settings.epochs * steps_per_epoch,
        jit_compile=settings.jit_compile,
    )


def _fit(
    run: Run, recipe: Recipe, method: Method, source: Source, steps: int, start: int, identity: str, console: Console
) -> None:
    log = run.logs / "metrics.csv"
    _forget_after(log, start // steps)
    extra, broken = load_plugins().callbacks(recipe, run.folder)
    for record in broken:
        warnings.warn(f"{record.title} adds no callbacks: {record.problem}; {record.remedy}", stacklevel=2)
    bar = _ProgressBar(recipe.train.epochs, steps, recipe.train.batch_size, console)
    try:
        method.fit(
            method.stream(source, batch_size=recipe.train.batch_size, seed=recipe.seed, start_step=start),
            epochs=recipe.train.epochs,
            initial_epoch=start // steps,
            steps_per_epoch=steps,
            verbose=0,
            callbacks=[
                _Pace(recipe.train.batch_size),
                keras.callbacks.CSVLogger(str(log), append=True),
                keras.callbacks.TensorBoard(str(run.logs), write_graph=False),
                bar,
                _Checkpoints(run, recipe, identity, steps),
                *extra,
            ],
        )
    finally:
        bar.close()


def _start(run: Run, recipe: Recipe, device: str) -> None:
    try:
        run.start(recipe, device)
    except OSError as error:
        raise TrainingError(f"{run.folder}: cannot be written: {error.strerror}; choose another --run-dir") from error


def _resume(run: Run, method: Method, identity: str) -> int:
    """Load the newest checkpoint; returns its step."""
    then, now = run.record.get("plugins"), plugin_versions()
    if then and then != now:
        changed = sorted({f"{name} {version}" for name, version in {*then.items()} ^ {*now.items()}})
        raise CheckpointError(
            f"{run.folder}: plugins have changed since ({', '.join(changed)}); install those, or start anew"
        )
    return checkpoint.restore(run.checkpoints, _state(method), recipe_hash=identity)


def _state(method: Method) -> list[Any]:
    """Every variable that the next step depends on."""
    return [*method.variables, *(slot for optimizer in method.optimizers.values() for slot in optimizer.variables)]


def _forget_after(log: Path, epoch: int) -> None:
    """Drop the rows of epochs that will be trained again, so that resuming writes each once."""
    if not log.exists():
        return
    rows = list(csv.reader(log.open(newline="")))
    kept = [row for row in rows[1:] if row and int(float(row[0])) < epoch]
    if not kept:
        log.unlink()  # with its header, which CSVLogger then writes again
        return
    with log.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *kept])


def _plan(recipe: Recipe, run: Run, method: Method, source: Source, device: str, steps: int) -> Table:
    """What is about to happen, in numbers that the recipe only implies."""
    batch, replicas = recipe.train.batch_size, method.distribute_strategy.num_replicas_in_sync
    backbone, all_of_it = method.backbone.count_params(), method.count_params()
    shape = " x ".join(map(str, source.image_shape))
    rows = {
        "recipe": recipe.name,
        "data": f"{source.name} {recipe.data.split}: {source.size:,} images of {shape}",
        "backbone": f"{recipe.backbone.name}: {backbone:,} parameters, embedding of {method.width}",
        "method": f"{recipe.method.name}: {all_of_it - backbone:,} more parameters and state",
        "devices": device,
        "batch": f"{batch}" + (f" = {replicas} x {batch // replicas}" if replicas > 1 else ""),
        "steps": f"{recipe.train.epochs} epochs x {steps} = {recipe.train.epochs * steps:,}",
        "learning rate": f"{recipe.scaled_learning_rate:.4g} ({recipe.optimizer.name}, {recipe.optimizer.schedule})",
        "precision": recipe.train.precision,
        "plugins": ", ".join(f"{name} {version}" for name, version in plugin_versions().items()),
        "run": str(run.folder),
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in rows.items():
        table.add_row(key, value)
    return table


class _Pace(keras.callbacks.Callback):
    """Adds the learning rate and the images per second to the figures of each epoch."""

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.steps, self.began = 0, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        logs["images_per_second"] = self.steps * self.batch_size / (time.monotonic() - self.began)


class _ProgressBar(keras.callbacks.Callback):
    """One bar over all steps, with the newest figures, images per second and the time left."""

    def __init__(self, epochs: int, steps: int, batch_size: int, console: Console):
        super().__init__()
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
        )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if not self.bar.tasks:
            total = self.epochs * self.steps
            self.task = self.bar.add_task("", total=total, completed=epoch * self.steps, figures="")
            self.bar.start()
        self.began, self.done = time.monotonic(), 0
        self.bar.update(self.task, description=f"epoch {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.done += 1
        pace = self.done * self.batch_size / (time.monotonic() - self.began)
        self.bar.update(self.task, advance=1, figures=f"{_figures(logs)}  {pace:,.0f} images/s")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        pace = logs["images_per_second"]
        shown = {key: value for key, value in logs.items() if key not in ("images_per_second", "learning_rate")}
        self.bar.console.print(f"epoch {epoch + 1:>3}/{self.epochs}  {_figures(shown)}  {pace:,.0f} images/s")

    def close(self) -> None:
        self.bar.stop()


class _Checkpoints(keras.callbacks.Callback):
    """Saves every variable each `checkpoint_every` epochs and after the last."""

    def __init__(self, run: Run, recipe: Recipe, identity: str, steps: int):
        super().__init__()
        self.run, self.settings, self.identity, self.steps = run, recipe.train, identity, steps

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        done = epoch + 1
        if done % self.settings.checkpoint_every == 0 or done == self.settings.epochs:
            try:
                checkpoint.save(
                    self.run.checkpoints,
                    done * self.steps,
                    _state(self.model),
                    recipe_hash=self.identity,
                    keep=self.settings.keep,
                )
            except OSError as error:
                raise TrainingError(
                    f"{self.run.checkpoints}: cannot be written: {error.strerror}; the last checkpoint is untouched, "
                    "make room and add --resume"
                ) from error


def _figures(logs: dict[str, Any]) -> str:
    return "  ".join(f"{key} {float(value):.4g}" for key, value in logs.items())
