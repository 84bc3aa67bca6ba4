"""Train a recipe: from the checked recipe to a finished run, or from where one stopped to its end."""

import csv
import errno
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from kzoo import checkpoint, devices, optimizers, workers
from kzoo.checkpoint import Checkpoint
from kzoo.data import Source
from kzoo.errors import CheckpointError, Interrupted, TrainingError
from kzoo.files import locked, replacing, sweep, sync
from kzoo.method import EpochMeans, Method
from kzoo.plugins import load_plugins
from kzoo.recipe import Recipe, changes, decisive, recipe_hash
from kzoo.report import evaluate_run, export_run, picture_training, pretext_figures
from kzoo.runs import Run, build_method, open_sources, plugin_versions, versions

_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)
_BAR = 12  # characters of the progress bar
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def train(
    recipe: Recipe, run_dir: Path | None, resume: bool, console: Console, allow_plugin_change: bool = False
) -> Run:
    """Train a recipe to its last epoch, then evaluate and export it.

    Args:
        run_dir: the run's folder; by default `runs/<name>`.
        resume: go on from the newest checkpoint that verifies, exactly: as if the training had never stopped. From the
            beginning, and saying so, where there is none yet.
        allow_plugin_change: resume although plugins of other versions are installed than the run was made with.

    Raises:
        CheckpointError: the folder holds a run already, or one that cannot be resumed with this recipe.
        Interrupted: SIGTERM or SIGINT came; the training is saved.
        TrainingError: the loss is not a number, or the folder cannot be written.
    """
    run = Run(run_dir or Path("runs") / recipe.name)
    before = (run.folder / "recipe.yaml").exists()
    if before and not resume:
        raise CheckpointError(f"{run.folder}: holds a run already; add --resume, or another --run-dir")
    if before:
        _refuse_changes(run, recipe, console)
    strategy = devices.make_strategy(recipe.train.strategy, recipe.train.devices, recipe.train.batch_size)
    chief = workers.is_chief(strategy)
    if not chief:
        console = Console(quiet=True)
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

    with _writing(run), _alone(run, strategy), _together(strategy, run):
        found = _resume(run, method, recipe, source, allow_plugin_change, console) if resume else None
        start = found.step if found else 0
        starts = workers.gather(strategy, start)
        if len(set(starts)) > 1:
            raise CheckpointError(
                f"{run.folder}: the workers would start after the steps {', '.join(map(str, starts))}; "
                "put the run on a file system that all of them share"
            )
        if chief:
            run.start(recipe, devices.describe(strategy))
        if chief and found:
            earlier = run.record.get("resumed", [])
            run.note(resumed=[*earlier, {"step": start, "plugins": found.made_with["plugins"]}])
        console.print(_plan(recipe, run, method, source, devices.describe(strategy), steps))
        began = time.monotonic()
        if start < recipe.train.epochs * steps:
            _fit(run, recipe, method, source, steps, found, console)
        if not chief:
            return run
        run.save_encoder(method.encoder)
        run.note(status="trained", seconds=round(time.monotonic() - began, 1))
        picture_training(run, method, source, test, console)
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
    run: Run, recipe: Recipe, method: Method, source: Source, steps: int, found: Checkpoint | None, console: Console
) -> None:
    log, start = run.logs / "metrics.csv", found.step if found else 0
    bar = _ProgressBar(recipe.train.epochs, steps, recipe.train.batch_size, start, console)
    callbacks: list[Any] = [EpochMeans(), _Pace(recipe.train.batch_size)]
    if workers.is_chief(method.distribute_strategy):
        _forget_after(log, start // steps)
        extra, broken = load_plugins().callbacks(recipe, run.folder)
        for record in broken:
            warnings.warn(f"{record.title} adds no callbacks: {record.problem}; {record.remedy}", stacklevel=2)
        callbacks += [
            keras.callbacks.CSVLogger(str(log), append=True),
            keras.callbacks.TensorBoard(str(run.logs), write_graph=False),
            bar,
            *extra,
        ]
    try:
        with _heard_signals(console) as signalled:
            saver = _Checkpoints(run, recipe, source, steps, found, callbacks, signalled)
            method.fit(
                source,
                batch_size=recipe.train.batch_size,
                seed=recipe.seed,
                epochs=recipe.train.epochs,
                steps_per_epoch=steps,
                start_step=start,
                verbose=0,
                callbacks=[*callbacks, saver],
            )
    finally:
        bar.close()


# ---- resuming --------------------------------------------------------------------------------------------------------


def _refuse_changes(run: Run, recipe: Recipe, console: Console) -> None:
    """Raise where a run's recipe differs from the given one in what a run cannot change."""
    lines = changes(decisive(run.recipe), decisive(recipe))
    if lines:
        raise CheckpointError(
            f"{run.folder}: was begun with another recipe ({'; '.join(lines)}); "
            "take these back, or use another --run-dir"
        )
    epochs, was = recipe.train.epochs, run.recipe.train.epochs
    if epochs != was:
        console.print(
            f"train.epochs: {epochs}, was {was}: the {recipe.optimizer.schedule} schedule of the learning rate, and "
            f"what else changes over the training, is that of {epochs} epochs from here on; the weights will differ "
            f"from those of a run that had {epochs} from its beginning"
        )


def _resume(
    run: Run, method: Method, recipe: Recipe, source: Source, allow_plugin_change: bool, console: Console
) -> Checkpoint | None:
    """Load the newest checkpoint; None where the run has made none yet."""
    if workers.is_chief(method.distribute_strategy):
        sweep(run.folder)
    found = checkpoint.newest(run.checkpoints)
    if found is None:
        log = run.logs / "metrics.csv"
        if log.exists() and log.stat().st_size:
            raise CheckpointError(
                f"{run.checkpoints}: no checkpoint is left of this run; start anew in another --run-dir"
            )
        console.print(f"{run.folder}: no checkpoint yet; training starts at its beginning")
        return None
    made_with = found.made_with
    if made_with["examples"] != source.size:
        raise CheckpointError(
            f"{source.name}: has {source.size:,} examples, had {made_with['examples']:,} when {found.path} was saved; "
            "restore the data, or start anew"
        )
    changed = _changed(made_with["plugins"], plugin_versions())
    if changed and not allow_plugin_change:
        raise CheckpointError(
            f"{run.folder}: plugins have changed since ({changed}); install those, or add --allow-plugin-change"
        )
    changed = "; ".join(filter(None, (changed, _changed(made_with["versions"], versions()))))
    if changed:
        console.print(f"[yellow]changed since this run was saved: {changed}; the numbers may differ from now on")
    found.load(checkpoint.state(method), recipe_hash=recipe_hash(recipe))
    console.print(f"resumed from {found.path}")
    return found


def _changed(then: dict[str, str], now: dict[str, str]) -> str:
    """What has another version now, or is gone: "kzoo-x 0.2, was 0.1". What came anew changes no training."""
    return "; ".join(
        f"{name} {now.get(name, 'is not installed')}, was {version}"
        for name, version in then.items()
        if now.get(name) != version
    )


def _forget_after(log: Path, epoch: int) -> None:
    """Drop the rows of epochs that will be trained again, so that resuming writes each once."""
    if not log.exists():
        return
    rows = list(csv.reader(log.open(newline="")))
    kept = [row for row in rows[1:] if row and int(float(row[0])) < epoch]
    if not kept:
        log.unlink()  # with its header, which CSVLogger then writes again
        return
    with replacing(log) as scratch, scratch.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *kept])


# ---- what may go wrong -----------------------------------------------------------------------------------------------


@contextmanager
def _writing(run: Run) -> Iterator[None]:
    """Tell in one line that the disk is full or the folder read-only."""
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{run.folder}: cannot be made: {error.strerror}; choose another --run-dir") from error
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise _unwritable(run, error.strerror) from error
    except tf.errors.OpError as error:  # TensorBoard's files are written by TensorFlow
        full = os.strerror(errno.ENOSPC)
        if full not in error.message:
            raise
        raise _unwritable(run, full) from error


def _unwritable(run: Run, problem: str | None) -> TrainingError:
    return TrainingError(
        f"{run.folder}: cannot be written: {problem}; make room, then go on with --resume: the last checkpoint is whole"
    )


@contextmanager
def _alone(run: Run, strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Refuse a run that another process is training. The workers of one training share it."""
    if workers.several(strategy):
        yield
        return
    with locked(run.folder) as alone:
        if not alone:
            raise CheckpointError(f"{run.folder}: another process is training this run; wait for it, or stop it")
        yield


@contextmanager
def _together(strategy: tf.distribute.Strategy, run: Run) -> Iterator[None]:
    """Tell in one line that another worker is gone."""
    try:
        yield
    except _LOST as error:
        if not workers.several(strategy):
            raise
        raise TrainingError(
            f"{run.folder}: another worker of this training is gone or cannot be reached; "
            "see what it said, then start all of them again with --resume"
        ) from error


@contextmanager
def _heard_signals(console: Console) -> Iterator[Callable[[], int | None]]:
    """Within the block SIGTERM and SIGINT do not end the process; the function it gives answers the first that came.

    The second ends the process at once, with exit code 128 + its number. A thread hears them: Python's own handlers
    would have to wait for the step that TensorFlow is at.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may say what signals do
        yield lambda: None
        return
    heard: list[int] = []
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def hear() -> None:
        while number := os.read(reader, 1):
            if heard:
                os._exit(128 + number[0])
            heard.append(number[0])
            name = signal.Signals(number[0]).name
            console.print(f"{name}: stopping after this step, once it is saved; again to stop at once")

    listener = threading.Thread(target=hear, daemon=True)
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    wakeup = signal.set_wakeup_fd(writer)
    listener.start()
    try:
        yield lambda: heard[0] if heard else None
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        listener.join()
        os.close(reader)


# ---- what is shown and saved -----------------------------------------------------------------------------------------


def _plan(recipe: Recipe, run: Run, method: Method, source: Source, device: str, steps: int) -> Table:
    """What is about to happen, in numbers that the recipe only implies."""
    batch, replicas = recipe.train.batch_size, method.distribute_strategy.num_replicas_in_sync
    backbone, all_of_it = method.backbone.count_params(), method.count_params()
    examples = f"images of {' x '.join(map(str, source.image_shape))}"
    if source.modality == "text":
        examples = f"passages of {source.length} tokens, vocabulary of {len(source.vocabulary):,}"
    rows = {
        "recipe": recipe.name,
        "data": f"{source.name} {recipe.data.split}: {source.size:,} {examples}",
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

    def __init__(self, epochs: int, steps: int, batch_size: int, start: int, console: Console):
        super().__init__()
        self.epochs, self.steps, self.batch_size, self.start = epochs, steps, batch_size, start
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=_BAR),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            TextColumn("{task.fields[figures]}"),
            console=console,
        )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if not self.bar.tasks:
            total = self.epochs * self.steps
            self.task = self.bar.add_task("", total=total, completed=self.start, figures="")
            self.bar.start()
        self.began, self.done = time.monotonic(), 0
        title, counted = f"epoch {epoch + 1}/{self.epochs}", f"{self.epochs * self.steps}"
        self.bar.update(self.task, description=title)
        taken = len(title) + _BAR + 2 * len(counted) + len("/ 0:00:00 left") + 4
        self.room = max(0, self.bar.console.width - taken)  # else every column would be cut

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.done += 1
        pace = self.done * self.batch_size / (time.monotonic() - self.began)
        figures = Text(f"{pace:,.0f} examples/s  {_figures(logs)}")
        figures.truncate(self.room, overflow="ellipsis")
        self.bar.update(self.task, advance=1, figures=figures.plain)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        pace = logs["images_per_second"]
        shown = {key: value for key, value in logs.items() if key not in ("images_per_second", "learning_rate")}
        self.bar.console.print(f"epoch {epoch + 1:>3}/{self.epochs}  {_figures(shown)}  {pace:,.0f} examples/s")

    def close(self) -> None:
        self.bar.stop()


class _Checkpoints(keras.callbacks.Callback):
    """Saves the training when the recipe says, at its beginning, at its end, and before a signal stops it.

    It must be the last of the callbacks: the state of an epoch's last step is saved after its figures are written. A
    callback with `get_state()`, which answers plain JSON values, and `set_state(state)` is saved and restored too.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        source: Source,
        steps: int,
        found: Checkpoint | None,
        callbacks: list[keras.callbacks.Callback],
        signalled: Callable[[], int | None],
    ):
        super().__init__()
        self.run, self.settings, self.steps, self.signalled = run, recipe.train, steps, signalled
        self.recipe_hash = recipe_hash(recipe)
        self.made_with = {"versions": versions(), "plugins": plugin_versions(), "examples": source.size}
        self.step = found.step if found else 0
        self.restored = found.callbacks if found else {}
        self.stateful = _stateful(callbacks)

    def on_train_begin(self, logs: Any = None) -> None:
        for name, callback in self.stateful.items():
            if name in self.restored:
                callback.set_state(self.restored[name])
        lost = ", ".join(name for name in self.restored if name not in self.stateful)
        if lost and workers.is_chief(self.model.distribute_strategy):  # the others have fewer
            warnings.warn(f"{self.run.folder}: no callback takes up the saved state of {lost}", stacklevel=2)
        self.saved, self.saved_at = self.step, time.monotonic()
        if not self.step:
            self._save()  # what cannot be saved should be known before hours of training

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        if self.step % self.steps:
            self._save_if(False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        every = self.settings.checkpoint.every_epochs
        self._save_if(every is not None and (epoch + 1) % every == 0)

    def on_train_end(self, logs: Any = None) -> None:
        if self.saved != self.step:
            self._save()

    def _save_if(self, due: bool) -> None:
        # stopping together: a worker that has heard nothing would wait in its next step for the one that left
        number = max(workers.gather(self.model.distribute_strategy, self.signalled() or 0))
        when = self.settings.checkpoint
        if when.every_steps and self.step % when.every_steps == 0:
            due = True
        if when.every_minutes and time.monotonic() - self.saved_at >= 60 * when.every_minutes:
            due = True
        if due or number:
            self._save()
        if number:
            name = signal.Signals(number).name
            raise Interrupted(
                f"{self.run.folder}: stopped by {name} after step {self.step}, which is saved; go on with --resume",
                number,
            )

    def _save(self) -> None:
        for variable in self.model.trainable_variables:
            if not np.isfinite(variable.numpy()).all():
                raise TrainingError(
                    f"{self.model.name}: {variable.path} is not finite after step {self.step}, learning rate "
                    f"{float(self.model.optimizer.learning_rate):.3g}; lower optimizer.learning_rate, or set "
                    "optimizer.clip_norm; the last checkpoint is from before"
                )
        self.saved, self.saved_at = self.step, time.monotonic()
        if not workers.is_chief(self.model.distribute_strategy):
            return
        log = self.run.logs / "metrics.csv"
        if log.exists():
            sync(log)  # a row that is lost would not be written again
        checkpoint.save(
            self.run.checkpoints,
            self.step,
            checkpoint.state(self.model),
            recipe_hash=self.recipe_hash,
            made_with=self.made_with,
            callbacks={name: callback.get_state() for name, callback in self.stateful.items()},
            keep=self.settings.checkpoint.keep,
        )


def _stateful(callbacks: list[Any]) -> dict[str, Any]:
    """The callbacks that have a state, by the name of their class and, where several share it, a number."""
    named: dict[str, Any] = {}
    for callback in callbacks:
        if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
            name = f"{type(callback).__module__}.{type(callback).__qualname__}"
            alike = sum(other.partition("#")[0] == name for other in named)
            named[f"{name}#{alike}" if alike else name] = callback
    return named


def _figures(logs: dict[str, Any]) -> str:
    return "  ".join(f"{key} {float(value):.4g}" for key, value in logs.items())
