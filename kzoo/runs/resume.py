"""Going on with a run that exists: what may have changed since, and what is loaded."""

import csv
import warnings
from pathlib import Path

from rich.console import Console

from kzoo.data.source import Source
from kzoo.distribute import workers
from kzoo.errors import CheckpointError, RecipeError
from kzoo.method import Method
from kzoo.recipe.schema import Recipe, changes, decisive, recipe_hash
from kzoo.runs import checkpoint
from kzoo.runs.checkpoint import Checkpoint
from kzoo.runs.plan import steps_per_epoch
from kzoo.runs.provenance import plugin_versions, versions
from kzoo.runs.run import Run
from kzoo.system.console import marked
from kzoo.system.files import replacing, sweep


def refuse_changes(run: Run, recipe: Recipe, console: Console) -> None:
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


def resume_run(
    run: Run,
    method: Method,
    recipe: Recipe,
    sources: tuple[Source, Source | None],
    allow_plugin_change: bool,
    console: Console,
) -> Checkpoint | None:
    """Load the newest checkpoint; None where the run has made none yet. sources: to train and to test on."""
    source, test = sources
    if workers.is_chief(method.distribute_strategy):
        sweep(run.folder)
    found = checkpoint.newest(run.checkpoints)
    if found is None:
        log = run.logs / "metrics.csv"
        if log.exists() and log.stat().st_size:
            raise CheckpointError(
                f"{run.checkpoints}: no checkpoint is left of this run; start anew in another --run-dir"
            )
        console.print(f"{marked(run.folder)}: no checkpoint yet; training starts at its beginning")
        return None
    made_with = found.made_with
    if made_with["examples"] != source.size:
        raise CheckpointError(
            f"{source.name}: has {source.size:,} examples, had {made_with['examples']:,} when {found.path} was saved; "
            "restore the data, or start anew"
        )
    run.check_data(source, made_with.get("data", ""))
    run.check_test(recipe, test, made_with.get("test"))
    total = recipe.train.epochs * steps_per_epoch(recipe, source.size)
    if found.step > total:
        raise RecipeError(
            f"train.epochs: {recipe.train.epochs} makes {total:,} steps, {run.folder} has made {found.step:,}; ask for "
            "as many epochs or more, or train anew in another --run-dir"
        )
    changed = _changed(made_with["plugins"], plugin_versions())
    if changed and not allow_plugin_change:
        raise CheckpointError(
            f"{run.folder}: plugins have changed since ({changed}); install those, or add --allow-plugin-change"
        )
    changed = "; ".join(filter(None, (changed, _changed(made_with["versions"], versions()))))
    if changed:
        console.print(
            f"[yellow]changed since this run was saved: {marked(changed)}; the numbers may differ from now on"
        )
    found.load(checkpoint.state(method), recipe_hash=recipe_hash(recipe))
    console.print(f"resumed from {marked(found.path)}")
    return found


def _changed(then: dict[str, str], now: dict[str, str]) -> str:
    """What has another version now, or is gone: "kzoo-x 0.2, was 0.1". What came anew changes no training."""
    return "; ".join(
        f"{name} {now.get(name, 'is not installed')}, was {version}"
        for name, version in then.items()
        if now.get(name) != version
    )


def forget_after(log: Path, epoch: int) -> None:
    """Drop the rows of epochs that will be trained again, so that resuming writes each once, and rows that are damaged,
    with a warning.
    """
    if not log.exists():
        return
    with log.open(newline="", encoding="utf-8", errors="replace") as file:
        header, *rows = list(csv.reader(file.read().replace("\0", "").splitlines())) or [[]]
    sound = [row for row in rows if len(row) == len(header) and row[0].isdecimal()] if header[:1] == ["epoch"] else []
    if len(sound) < len([row for row in rows if row]):
        warnings.warn(f"{log}: damaged; rows that cannot be read are left out", stacklevel=2)
    kept = [row for row in sound if int(row[0]) < epoch]
    if not kept:
        log.unlink()  # with its header, which CSVLogger then writes again
        return
    with replacing(log) as scratch, scratch.open("w", newline="") as file:
        csv.writer(file).writerows([header, *kept])
