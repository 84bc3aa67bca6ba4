"""Train a recipe: from the checked recipe to a finished run, or from where one stopped to its end."""

import time
import warnings
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.table import Table

from kzoo.base.epochs import EpochMeans
from kzoo.data.source import Source
from kzoo.distribute import devices, workers
from kzoo.errors import CheckpointError, TrainingError
from kzoo.folder.census import census_lines
from kzoo.method import Method
from kzoo.plugins import registry, targets
from kzoo.plugins.load import load_plugins
from kzoo.recipe.schema import Recipe, recipe_hash
from kzoo.runs import checkpoint, plan
from kzoo.runs.build import build_method, compile_method, open_sources, precision, tested_on
from kzoo.runs.checkpoint import Checkpoint
from kzoo.runs.labels import keep_labels, seen_by_method
from kzoo.runs.pretrained import Initial
from kzoo.runs.provenance import Origin, plugin_versions, versions
from kzoo.runs.report import Sources, evaluate_run, export_run, exported, made_from, picture_training, pretext_figures
from kzoo.runs.resume import forget_after, refuse_changes, resume_run
from kzoo.runs.run import Run
from kzoo.system.console import marked, tell
from kzoo.system.files import read_json
from kzoo.system.signals import heard_signals
from kzoo.train.callbacks import Pace, ProgressBar, SaveCheckpoints
from kzoo.train.guards import alone, together, writing
from kzoo.train.probe import KEY, Figures, ProbeWhileTraining


def train(
    recipe: Recipe, run_dir: Path | None, resume: bool, console: Console, allow_plugin_change: bool = False
) -> Run:
    """Train a recipe to its last epoch, then evaluate and export it.

    Args:
        run_dir: the run's folder; by default `runs/<name>`.
        resume: go on from the newest checkpoint that verifies, exactly: as if the training had never stopped. From the
            beginning, and saying so, where there is none yet. What a finished run has already is not made again.
        allow_plugin_change: resume although plugins of other versions are installed than the run was made with.

    Raises:
        RecipeError: the data do not fill one batch, or the run has made more steps than the recipe asks for.
        PluginError: what a format of its export needs is not installed.
        DataError: the data cannot be read, or are not those that the run began with.
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
    registry.require_formats(recipe.export.formats)  # else it is known only after the training
    strategy = devices.make_strategy(recipe.train.strategy, recipe.train.devices, recipe.train.batch_size)
    chief = workers.is_chief(strategy)
    if not chief:
        console = Console(quiet=True)
    whole, test = sources = open_sources(recipe)
    source = seen_by_method(run, recipe, whole)
    for line in census_lines(source.census) if source.census else ():
        tell(console, line)
    total = plan.steps_per_epoch(recipe, source.size) * recipe.train.epochs
    initial = Initial(recipe.init_from) if recipe.init_from and not checkpoint.exist(run.checkpoints) else None
    with strategy.scope(), precision(recipe):
        method = build_method(recipe, source, initial.begin if initial else None)
        compile_method(method, recipe, source)

    with writing(run), alone(run, strategy), together(strategy, run):
        found = resume_run(run, method, recipe, sources, allow_plugin_change, console) if resume else None
        start = found.step if found else 0
        starts = workers.gather(strategy, start)
        if len(set(starts)) > 1:
            raise CheckpointError(
                f"{run.folder}: the workers would start after the steps {', '.join(map(str, starts))}; "
                "put the run on a file system that all of them share"
            )
        if chief:
            run.start(recipe, source.census)
            keep_labels(run, recipe, source)
            run.note(test=tested_on(recipe, test))
            if initial:
                run.note(init_from=initial.made_from)
        if start < total:
            device = devices.describe(strategy)
            if chief:
                _note_beginning(run, recipe, source, device, found)
            console.print(_plan(recipe, run, method, source, device))
            began = time.monotonic()
            _fit(run, recipe, method, source, sources, found, console)
            if chief:
                run.note(seconds=round(time.monotonic() - began, 1))
        if chief:
            _finish(run, recipe, method, source, sources, Origin(total, recipe_hash(recipe), source.digest), console)
    return run


def _note_beginning(run: Run, recipe: Recipe, source: Source, device: str, found: Checkpoint | None) -> None:
    run.note(passes=round(plan.passes(recipe, source.size), 3))
    run.note(status="training", seed=recipe.seed, device=device, versions=versions(), plugins=plugin_versions())
    if found:
        earlier = run.record.get("resumed", [])
        run.note(resumed=[*earlier, {"step": found.step, "plugins": found.made_with["plugins"]}])


def _finish(
    run: Run, recipe: Recipe, method: Method, seen: Source, sources: Sources, origin: Origin, console: Console
) -> None:
    """Whatever of weights, evaluation and exports the trained run does not have yet, or has of another state.

    seen: the training data as the method saw it; sources: with all labels, to train and to test on, for the probes.
    """
    _, test = sources
    if not run.holds(method, origin):
        run.save(method, origin)
    evaluated = read_json(run.evaluation).get("made_from") == made_from(run, run.recipe)
    formats = recipe.export.formats
    if evaluated and exported(run, formats):
        run.note(status="finished")
        console.print(
            f"nothing to do: [bold]{marked(run.folder)}[/bold] is finished at step {origin.step:,}, evaluated and "
            "exported; raise train.epochs to go on"
        )
        return
    run.note(status="trained")
    if not evaluated:
        picture_training(run, method, seen, test, console)
        run.note(pretext=pretext_figures(run, method, seen, test, console))
        evaluate_run(run.folder, console, sources)
    if not exported(run, formats):
        export_run(run.folder, formats, None, console, sources)
    run.note(status="finished")
    console.print(f"\nEverything is in [bold]{marked(run.folder)}[/bold]")


def _fit(
    run: Run,
    recipe: Recipe,
    method: Method,
    source: Source,
    sources: Sources,
    found: Checkpoint | None,
    console: Console,
) -> None:
    log, start = run.logs / "metrics.csv", found.step if found else 0
    steps = plan.steps_per_epoch(recipe, source.size)
    bar = ProgressBar(recipe.train.epochs, steps, recipe.train.batch_size, start, console)
    callbacks: list[Any] = [EpochMeans(), Pace(recipe.train.batch_size)]
    extra, broken = load_plugins().callbacks(recipe, run.folder, workers.index(method.distribute_strategy))
    for record in broken:
        warnings.warn(f"{record.title} adds no callbacks: {record.problem}; {record.remedy}", stacklevel=2)
    if workers.is_chief(method.distribute_strategy):
        forget_after(log, start // steps)
        probed = recipe.evaluate.every is not None
        callbacks += [
            *([ProbeWhileTraining(recipe, *sources)] if probed else []),
            Figures(log, (KEY,) if probed else ()),
            keras.callbacks.TensorBoard(str(run.logs), write_graph=False),
            bar,
        ]
    callbacks += extra
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
    if saver.step != steps * recipe.train.epochs:  # nothing untrained may look trained
        raise TrainingError(
            f"{run.folder}: the training ended at step {saver.step:,} of {steps * recipe.train.epochs:,}; a callback "
            "stopped it, or the data ended; see what it said, then go on with --resume"
        )


def _plan(recipe: Recipe, run: Run, method: Method, source: Source, device: str) -> Table:
    """What is about to happen, in numbers that the recipe only implies."""
    replicas = method.distribute_strategy.num_replicas_in_sync
    backbone, all_of_it = method.backbone.count_params(), method.count_params()
    found = {
        "dataset": targets.modality(source.modality).describe(source),
        "backbone": f"{backbone:,} parameters, embedding of {method.width}",
        "method": f"{all_of_it - backbone:,} more parameters and state",
        "labels": f"{len(source.labelled):,} of {source.size:,} examples" if source.labelled is not None else "",
        "batch": f"{replicas} x {recipe.train.batch_size // replicas}" if replicas > 1 else "",
        "strategy": device,
    }
    return plan.table(recipe, source.size, found, {"plugins": ", ".join(_asked(recipe)), "run": str(run.folder)})


def _asked(recipe: Recipe) -> list[str]:
    """Distribution and version of the plugins that bring what the recipe names; `kzoo.json` has all that are loaded."""
    specs = (
        registry.find_dataset(recipe.data.name),
        registry.find_backbone(recipe.backbone.name),
        registry.find_method(recipe.method.name),
    )
    brought = [plugin for spec in specs if (plugin := registry.provider(spec))]
    return list(dict.fromkeys(f"{plugin.distribution} {plugin.version}" for plugin in brought))
