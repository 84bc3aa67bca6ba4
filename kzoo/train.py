"""Train a recipe: from the checked recipe to a finished run, or from where one stopped to its end."""

import time
import warnings
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.table import Table

from kzoo import devices, optimizers, plan, workers
from kzoo.callbacks import Pace, ProgressBar, SaveCheckpoints
from kzoo.checkpoint import Checkpoint
from kzoo.console import marked
from kzoo.data import Source
from kzoo.epochs import EpochMeans
from kzoo.errors import CheckpointError
from kzoo.guards import alone, together, writing
from kzoo.method import Method
from kzoo.plugins import load_plugins
from kzoo.recipe import Recipe
from kzoo.report import evaluate_run, export_run, picture_training, pretext_figures
from kzoo.resume import forget_after, refuse_changes, resume_run
from kzoo.runs import Run, build_method, open_sources, plugin_versions
from kzoo.signals import heard_signals


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
        Interrupted: SIGHUP, SIGTERM or SIGINT came; the training is saved.
        TrainingError: the loss is not a number, or the folder cannot be written.
    """
    run = Run(run_dir or Path("runs") / recipe.name)
    before = (run.folder / "recipe.yaml").exists()
    if before and not resume:
        raise CheckpointError(f"{run.folder}: holds a run already; add --resume, or another --run-dir")
    if before:
        refuse_changes(run, recipe, console)
    strategy = devices.make_strategy(recipe.train.strategy, recipe.train.devices, recipe.train.batch_size)
    chief = workers.is_chief(strategy)
    if not chief:
        console = Console(quiet=True)
    source, test = sources = open_sources(recipe)
    steps = plan.steps_per_epoch(recipe, source.size)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.train.precision)
    try:
        with strategy.scope():
            method = build_method(recipe, source)
            compile_method(method, recipe, steps)
    finally:
        keras.config.set_dtype_policy(policy)

    with writing(run), alone(run, strategy), together(strategy, run):
        found = resume_run(run, method, recipe, source, allow_plugin_change, console) if resume else None
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
        console.print(_plan(recipe, run, method, source, devices.describe(strategy)))
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
    console.print(f"\nEverything is in [bold]{marked(run.folder)}[/bold]")
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
    bar = ProgressBar(recipe.train.epochs, steps, recipe.train.batch_size, start, console)
    callbacks: list[Any] = [EpochMeans(), Pace(recipe.train.batch_size)]
    if workers.is_chief(method.distribute_strategy):
        forget_after(log, start // steps)
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
        with heard_signals(console) as signalled:
            saver = SaveCheckpoints(run, recipe, source, steps, found, callbacks, signalled)
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


def _plan(recipe: Recipe, run: Run, method: Method, source: Source, device: str) -> Table:
    """What is about to happen, in numbers that the recipe only implies."""
    replicas = method.distribute_strategy.num_replicas_in_sync
    backbone, all_of_it = method.backbone.count_params(), method.count_params()
    element = f"images of {' x '.join(map(str, source.image_shape))}"
    if source.modality == "text":
        element = f"passages of {source.length} tokens, vocabulary of {len(source.vocabulary):,}"
    found = {
        "dataset": element,
        "backbone": f"{backbone:,} parameters, embedding of {method.width}",
        "method": f"{all_of_it - backbone:,} more parameters and state",
        "batch": f"{replicas} x {recipe.train.batch_size // replicas}" if replicas > 1 else "",
        "strategy": device,
    }
    plugins = ", ".join(f"{name} {version}" for name, version in plugin_versions().items())
    return plan.table(recipe, source.size, found, {"plugins": plugins, "run": str(run.folder)})
