"""The command line. Each command imports what it needs when it runs: `list`, `show`, `doctor` and `train --dry-run`
never import TensorFlow.

Exit codes: 0 done, 1 the run failed, 2 the recipe or the call is wrong, 3 a plugin is missing or broken.
An error says what, where and what to do, one line for each problem; `--debug` adds the traceback.
"""

import builtins
import json
import os
import shlex
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import kzoo
from kzoo.cli import complete
from kzoo.cli.door import (
    SILENT,
    AsJson,
    Debug,
    NewRunFolder,
    Overrides,
    Resume,
    app,
    command,
    importing_tensorflow,
    without_chatter,
)
from kzoo.errors import NotKept
from kzoo.system import surroundings
from kzoo.system.console import make_console, say, settle_streams, tell

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A recipe: a YAML file.", autocompletion=complete.recipes)
]


class Listed(StrEnum):
    """What `kzoo list` lists."""

    METHODS = "methods"
    BACKBONES = "backbones"
    DATASETS = "datasets"
    PRESETS = "presets"
    MODALITIES = "modalities"
    FORMATS = "formats"
    PLUGINS = "plugins"
    RECIPES = "recipes"


_NEXT = {  # below a list in a terminal
    Listed.METHODS: "kzoo show NAME says more, kzoo list recipes what there is to train",
    Listed.RECIPES: "kzoo train RECIPE trains one, kzoo show RECIPE says what it costs",
    Listed.PLUGINS: "kzoo doctor examines them",
}


def main(arguments: list[str] | None = None) -> None:
    """The console entry point; leaves by SystemExit with the exit code. In a notebook, where that would be shown as an
    exception, it returns when all went well.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", SILENT)
    settle_streams()
    try:
        app(arguments, prog_name="kzoo")
    except SystemExit as stop:
        if stop.code or not hasattr(builtins, "__IPYTHON__"):
            raise


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"kzoo {kzoo.__version__}")
        raise typer.Exit


@app.callback()
def _kzoo(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Self-supervised learning with Keras 3: every method, backbone and dataset is a plugin."""


@command
def list_(
    what: Annotated[Listed | None, typer.Argument(help="What to list; the first four where left out.")] = None,
    pattern: Annotated[str, typer.Argument(help="Only names that match, for example 'moco*'.")] = "*",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the methods, backbones, datasets, presets, modalities, formats, plugins, or the recipes in ./recipes."""
    from kzoo.plugins import describe

    kinds = [what] if what else [Listed.METHODS, Listed.BACKBONES, Listed.DATASETS, Listed.PRESETS]
    rows = {kind.value: _rows(kind, pattern) for kind in kinds}
    if as_json:
        say(json.dumps(rows[what.value] if what else rows, indent=2))
    else:
        console = make_console()
        for place, kind in enumerate(kinds):
            if place:
                console.print()
            describe.print_list(console, kind.value, rows[kind.value], pattern)
        if console.is_terminal:
            console.print()
            tell(console, _NEXT.get(what or Listed.METHODS, "kzoo show NAME says more"), style="dim")
    for line in describe.left_out(list(rows)):
        tell(make_console(stderr=True), line, style="yellow")


def _rows(kind: Listed, pattern: str) -> list[dict[str, Any]]:
    from kzoo.plugins import describe
    from kzoo.recipe import listing

    return listing.listed(pattern) if kind is Listed.RECIPES else describe.listed(kind.value, pattern)


@command
def show(
    name: Annotated[
        str,
        typer.Argument(help="Name of a method, backbone, dataset, preset or recipe.", autocompletion=complete.anything),
    ],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what a method, backbone, dataset, preset or recipe is, what it needs and what can be set."""
    from kzoo.cli import preset
    from kzoo.plugins import describe, registry
    from kzoo.recipe import listing
    from kzoo.specs import MethodSpec, PresetSpec

    try:
        found = registry.find_any(name)
    except registry.UnknownName:
        recipes = {known: recipe for recipe in listing.here() for known in listing.names(recipe)[:3]}
        if name not in recipes:
            registry.find_any(name, others=recipes)
        if as_json:
            say(json.dumps(listing.facts(recipes[name]), indent=2))
        else:
            listing.print_recipe(make_console(), recipes[name])
        return
    if as_json:
        answer = [
            describe.facts(spec)
            if isinstance(spec, PresetSpec)
            else describe.facts(spec) | {"options": describe.option_facts(spec.options)}
            for spec in found
        ]
        say(json.dumps(answer[0] if len(answer) == 1 else answer, indent=2))
        return
    for spec in found:
        if isinstance(spec, PresetSpec):
            preset.print_preset(make_console(), spec)
        else:
            describe.print_spec(make_console(), spec)
            if isinstance(spec, MethodSpec) and listing.here(name):
                make_console().print(f"\nto train it: kzoo list recipes {name}")


@command
def train(
    recipe: RecipeFile,
    overrides: Overrides = None,
    run_dir: NewRunFolder = None,
    resume: Resume = False,
    allow_plugin_change: Annotated[
        bool, typer.Option("--allow-plugin-change", help="Resume although plugins have other versions now.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the recipe and print the plan, no more.")] = False,
    debug: Debug = False,
) -> None:
    """Train a recipe, evaluate what was trained and export it."""
    from kzoo.plugins import registry
    from kzoo.recipe.load import load

    checked = load(recipe, overrides or ())
    registry.require_formats(checked.export.formats)
    if dry_run:
        from kzoo.runs import plan

        call = ["kzoo", "train", *_call(recipe, overrides, run_dir, resume)]
        call += ["--allow-plugin-change"] if allow_plugin_change else []
        plan.print_forecast(make_console(), checked, run_dir or Path("runs", checked.name), shlex.join(call))
        return
    with importing_tensorflow():
        from kzoo.train.loop import train as run

    console = make_console()
    run(checked, run_dir=run_dir, resume=resume, console=console, allow_plugin_change=allow_plugin_change)
    folder = run_dir or Path("runs", checked.name)
    tell(console, "What it is for, for example:")
    console.print(f"  kzoo embed {folder} DATA --out embeddings.npz", markup=False, soft_wrap=True)
    if "saved_model" in checked.export.formats:
        console.print(f"  kzoo serve {folder / 'exports' / checked.name}", markup=False, soft_wrap=True)


def _call(recipe: Path, overrides: list[str] | None, run_dir: Path | None, resume: bool) -> list[str]:
    """What `kzoo train` was called with, as arguments again."""
    call = [str(recipe), *(part for override in overrides or () for part in ("--set", override))]
    call += ["--run-dir", str(run_dir)] if run_dir else []
    return [*call, "--resume"] if resume else call


@command
def launch(
    recipe: RecipeFile,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that train together.")] = 2,
    overrides: Overrides = None,
    run_dir: NewRunFolder = None,
    resume: Resume = False,
    debug: Debug = False,
) -> None:
    """Train a recipe with several workers on this machine, to try out what runs on many."""
    from kzoo.distribute.launch import launch as run
    from kzoo.recipe.load import load

    surroundings.prepare()
    load(recipe, [*(overrides or ()), "train.strategy=multi_worker"])  # one error, not one from each worker
    call = _call(recipe, overrides, run_dir, resume)
    if code := run(workers, [*call, "--debug"] if debug else call):
        raise typer.Exit(code)


@command
def evaluate(run_dir: RunFolder, overrides: Overrides = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Evaluate the backbone of a run beside the untrained one; --set evaluate.KEY=VALUE asks it otherwise."""
    from kzoo.runs.asked import asked_otherwise
    from kzoo.use.call import require_run

    require_run(run_dir)
    recipe = asked_otherwise(run_dir, overrides) if overrides else None
    with importing_tensorflow():
        from kzoo.runs.report import evaluate_run

    refused = None
    try:
        results = evaluate_run(run_dir, make_console(stderr=as_json), recipe=recipe)  # JSON has the output to itself
    except NotKept as error:
        results, refused = error.report, error
    if as_json:
        say(json.dumps(results, indent=2))
    if refused:
        raise refused


@command
def export(
    run_dir: RunFolder,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="A,B", help="`kzoo list formats`; saved_model where left out."),
    ] = None,
    destination: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Where to write; <run>/exports where left out.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Export the backbone of a run for serving, with its card and its contract."""
    from kzoo.plugins import registry
    from kzoo.use.call import require_run

    wanted = [name.strip() for some in formats or ("saved_model",) for name in some.split(",") if name.strip()]
    registry.require_formats(wanted)
    require_run(run_dir)
    with importing_tensorflow():
        from kzoo.runs.report import export_run

    export_run(run_dir, formats=wanted, destination=destination, console=make_console())


@command
def check(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Methods, backbones or presets.", autocompletion=complete.checkable),
    ],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run the conformance suite on installed methods, backbones or presets; takes a minute each."""
    from kzoo.plugins import registry

    for name in names:
        registry.find_any(name)  # a wrong name is told at once
    with importing_tensorflow():
        from kzoo.testing import run

    console = make_console(stderr=as_json)  # JSON has the standard output to itself
    answers, failed = [], False
    for subject in [subject for name in names for subject in run.subjects_of(name)]:
        outcomes = run.print_checks(console, subject)
        subject.close()
        answers.append({"kind": subject.kind, "name": subject.name, "checks": [asdict(one) for one in outcomes]})
        for outcome in outcomes:
            failed |= not outcome.ok
            if debug and outcome.traceback:
                say(outcome.traceback, stderr=True)
    if as_json:
        say(json.dumps(answers, indent=2))
    if failed:
        raise typer.Exit(1)


@command
def new(
    name: Annotated[str, typer.Argument(help="Name of the method or backbone, lower_snake_case.")],
    backbone: Annotated[bool, typer.Option("--backbone", help="Write a backbone, not a method.")] = False,
    debug: Debug = False,
) -> None:
    """Write a plugin of your own, ./kzoo-NAME, which installs, passes `kzoo check` and trains as it is."""
    from kzoo.plugins.new import create

    folder = create(name, "backbone" if backbone else "method", Path.cwd()).name
    say(f"./{folder} holds the {'backbone' if backbone else 'method'} '{name}'. Next:")
    say(f"  pip install --editable ./{folder}")
    say(f"  kzoo check {name}")
    say(f"  kzoo train {folder}/recipes/{name}.yaml")


@command
def doctor(
    full: Annotated[bool, typer.Option("--full", help="Also import TensorFlow and list its devices.")] = False,
    debug: Debug = False,
) -> None:
    """Examine this installation: versions, plugins, processors."""
    from kzoo.cli import doctor as diagnose

    with without_chatter():
        findings = diagnose.examine(full=full)
    diagnose.print_findings(make_console(), findings)
    if findings.exit_code:
        raise typer.Exit(findings.exit_code)


from kzoo.cli import finetune, use  # noqa: E402, F401  # their commands come last in the help
