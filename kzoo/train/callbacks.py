"""What kzoo does between the steps of a training: figures, the progress bar, checkpoints."""

import signal
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kzoo.data.source import Source
from kzoo.distribute import workers
from kzoo.errors import Interrupted, TrainingError
from kzoo.recipe.schema import Recipe, recipe_hash
from kzoo.runs import checkpoint
from kzoo.runs.checkpoint import Checkpoint
from kzoo.runs.provenance import plugin_versions, versions
from kzoo.runs.run import Run
from kzoo.system.files import sync

_BAR = 12  # characters of the progress bar
_QUIET = 60  # seconds after which a training that has no bar says where it is


class Pace(keras.callbacks.Callback):
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


class ProgressBar(keras.callbacks.Callback):
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
            disable=not console.is_interactive,  # of a bar in a file only its end would be seen
        )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if not self.bar.tasks:
            total = self.epochs * self.steps
            self.task = self.bar.add_task("", total=total, completed=self.start, figures="")
            self.bar.start()
        self.began = self.told = time.monotonic()
        self.done = 0
        self.title, counted = f"epoch {epoch + 1}/{self.epochs}", f"{self.epochs * self.steps}"
        self.bar.update(self.task, description=self.title)
        taken = len(self.title) + _BAR + 2 * len(counted) + len("/ 0:00:00 left") + 4
        self.room = max(0, self.bar.console.width - taken)  # else every column would be cut

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.done += 1
        pace = self.done * self.batch_size / (time.monotonic() - self.began)
        loss, *others = _figures(logs)
        if self.bar.disable and time.monotonic() - self.told > _QUIET:
            self.told = time.monotonic()
            where = f"{self.title}  step {self.done:,}/{self.steps:,}"
            self.bar.console.print("  ".join([where, loss, f"{pace:,.0f} examples/s"]))
        self.bar.update(self.task, advance=1, figures=_that_fit([loss, f"{pace:,.0f}/s", *others], self.room))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        pace = logs["images_per_second"]
        shown = {key: value for key, value in logs.items() if key not in ("images_per_second", "learning_rate")}
        shown_figures = "  ".join([*_figures(shown), f"{pace:,.0f} examples/s"])
        self.bar.console.print(f"epoch {epoch + 1:>3}/{self.epochs}  {shown_figures}")

    def close(self) -> None:
        self.bar.stop()


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves the training when the recipe says, at its beginning, at its end, and before a signal stops it.

    It must be the last of the callbacks: the state of an epoch's last step is saved after its figures are written. A
    callback with `get_state()`, which returns plain JSON values, and `set_state(state)` is saved and restored too.
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
        self.made_with: dict[str, Any] = {"versions": versions(), "plugins": plugin_versions()}
        self.made_with |= {"examples": source.size, "data": source.digest, "test": run.record.get("test")}
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


def _figures(logs: dict[str, Any]) -> list[str]:
    """Each figure with its name, the loss first."""
    ordered = sorted(logs.items(), key=lambda item: item[0] != "loss")
    return [f"{key} {float(value):.4g}" for key, value in ordered]


def _that_fit(figures: Sequence[str], room: int) -> str:
    """As many figures, from the first, as there is room for; none is cut."""
    shown = ""
    for figure in figures:
        longer = f"{shown}  {figure}" if shown else figure
        if len(longer) > room:
            break
        shown = longer
    return shown
