"""The command line. Each command imports what it needs when it runs: `list`, `show`, `doctor` and `train --dry-run`
never import TensorFlow.

Exit codes: 0 done, 1 the run failed, 2 the recipe or the call is wrong, 3 a plugin is missing or broken.
An error says what, where and what to do, one line for each problem; `--debug` adds the traceback.
"""

import functools
import json
import os
import re
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import kzoo
from kzoo.errors import KzooError, NotKept, PluginError, printable
from kzoo.system import failures, surroundings
from kzoo.system.console import give_up_output, make_console, marked, say, settle_streams

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_SILENT = "3"
_CHATTER = re.compile(rb"[IWE]\d{4} |WARNING: All log messages before absl|To enable the following instructions")

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.", exists=True, file_okay=False)]
TrainedFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="Folder of a run or of an export.", exists=True, file_okay=False)
]
RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe: a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value; may be repeated.")
]
NewRunFolder = Annotated[
    Path | None, typer.Option("--run-dir", metavar="DIR", help="Folder of the run; runs/<name> where left out.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of the run.")]


class Listed(StrEnum):
    """What `kzoo list` lists."""

    METHODS = "methods"
    BACKBONES = "backbones"
    DATASETS = "datasets"
    MODALITIES = "modalities"
    PLUGINS = "plugins"


class Format(StrEnum):
    """What `kzoo export` writes."""

    SAVED_MODEL = "saved_model"


def main(arguments: list[str] | None = None) -> None:
    """The console entry point; leaves by SystemExit with the exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", _SILENT)
    settle_streams()
    app(arguments, prog_name="kzoo")


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a command; its exceptions become lines on the error stream and an exit code."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            raise typer.Exit(128 + signal.SIGINT) from None
        except BrokenPipeError:  # `kzoo list | head -1`: the reader has what it wanted
            give_up_output()
            raise typer.Exit(128 + signal.SIGPIPE) from None
        except Exception as error:
            with suppress(OSError, KzooError):
                _print_error(error, kwargs["debug"])
            give_up_output()
            raise typer.Exit(getattr(error, "exit_code", 1)) from None

    app.command(function.__name__.rstrip("_"))(guarded)
    return guarded


def _print_error(error: Exception, debug: bool) -> None:
    if debug:
        say("".join(traceback.format_exception(error)), stderr=True)
        _print_plugins_own(error)
    for line in failures.lines(error):
        say(typer.style(line, fg="red") if line.startswith("error: ") and sys.stderr.isatty() else line, stderr=True)


def _print_plugins_own(error: Exception) -> None:
    """The tracebacks of the broken plugins, where a plugin is missing or broken: they were loaded long before."""
    if isinstance(error, PluginError):
        from kzoo.plugins.load import load_plugins

        for record in load_plugins().broken:
            say(f"\n{record.title}:\n{record.traceback}", stderr=True)


@contextmanager
def _importing_tensorflow() -> Iterator[None]:
    """Import what builds and trains, in surroundings that are as recipes expect them, and without its chatter."""
    surroundings.prepare()
    with _without_chatter():
        yield
    surroundings.settle_keras()


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep back what TensorFlow's C++ side logs while it is imported; only later does it heed TF_CPP_MIN_LOG_LEVEL.

    Everything else that is written to the error stream meanwhile is passed on afterwards.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != _SILENT:  # someone wants to read it
        yield
        return
    try:
        kept = tempfile.TemporaryFile()  # noqa: SIM115, closed below
    except OSError:  # nowhere to keep it
        yield
        return
    with kept:
        sys.stderr.flush()
        real = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            kept.seek(0)
            for line in kept:
                if not _CHATTER.match(line):
                    os.write(2, line)


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


@_command
def list_(
    what: Annotated[Listed | None, typer.Argument(help="What to list; all but the plugins where left out.")] = None,
    pattern: Annotated[str, typer.Argument(help="Only names that match, for example 'moco*'.")] = "*",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the methods, backbones, datasets, modalities or plugins."""
    from kzoo.plugins import describe

    kinds = [what] if what else [Listed.METHODS, Listed.BACKBONES, Listed.DATASETS]
    rows = {kind.value: describe.listed(kind.value, pattern) for kind in kinds}
    if as_json:
        say(json.dumps(rows[what.value] if what else rows, indent=2))
    else:
        console = make_console()
        for place, kind in enumerate(kinds):
            if place:
                console.print()
            describe.print_list(console, kind.value, rows[kind.value], pattern)
    for line in describe.left_out(list(rows)):
        typer.secho(printable(line), err=True, fg="yellow")


@_command
def show(
    name: Annotated[str, typer.Argument(help="Name of a method, backbone or dataset.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what a method, backbone or dataset is, what it needs and what can be set."""
    from kzoo.plugins import describe, registry

    found = registry.find_any(name)
    if as_json:
        answer = [describe.facts(spec) | {"options": describe.option_facts(spec.options)} for spec in found]
        say(json.dumps(answer[0] if len(answer) == 1 else answer, indent=2))
        return
    for spec in found:
        describe.print_spec(make_console(), spec)


@_command
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
    from kzoo.recipe.load import load

    checked = load(recipe, overrides or ())
    if dry_run:
        from kzoo.runs import plan

        call = ["kzoo", "train", *_call(recipe, overrides, run_dir, resume)]
        call += ["--allow-plugin-change"] if allow_plugin_change else []
        plan.print_forecast(make_console(), checked, run_dir or Path("runs", checked.name), shlex.join(call))
        return
    with _importing_tensorflow():
        from kzoo.train.loop import train as run

    run(checked, run_dir=run_dir, resume=resume, console=make_console(), allow_plugin_change=allow_plugin_change)


def _call(recipe: Path, overrides: list[str] | None, run_dir: Path | None, resume: bool) -> list[str]:
    """What `kzoo train` was called with, as arguments again."""
    call = [str(recipe), *(part for override in overrides or () for part in ("--set", override))]
    call += ["--run-dir", str(run_dir)] if run_dir else []
    return [*call, "--resume"] if resume else call


@_command
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


@_command
def evaluate(run_dir: RunFolder, as_json: AsJson = False, debug: Debug = False) -> None:
    """Evaluate the backbone of a run beside the untrained one."""
    with _importing_tensorflow():
        from kzoo.runs.report import evaluate_run

    refused = None
    try:
        results = evaluate_run(run_dir, console=make_console(stderr=as_json))  # JSON has the standard output to itself
    except NotKept as error:
        results, refused = error.report, error
    if as_json:
        say(json.dumps(results, indent=2))
    if refused:
        raise refused


@_command
def export(
    run_dir: RunFolder,
    formats: Annotated[
        list[Format] | None, typer.Option("--format", help="May be repeated; saved_model where left out.")
    ] = None,
    destination: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Where to write; <run>/exports where left out.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Export the backbone of a run for serving."""
    with _importing_tensorflow():
        from kzoo.runs.report import export_run

    wanted = [format.value for format in formats or (Format.SAVED_MODEL,)]
    export_run(run_dir, formats=wanted, destination=destination, console=make_console())


@_command
def embed(
    place: TrainedFolder,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A dataset: digits, folder:PATH, ...; `kzoo list`.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Ends in .npz, .csv or .parquet.")],
    splits: Annotated[list[str] | None, typer.Option("--split", help="May be repeated; all where left out.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the dataset.")
    ] = None,
    feature: Annotated[str, typer.Option("--feature", help="An output of the backbone.")] = "embedding",
    debug: Debug = False,
) -> None:
    """Write the embedding of every example of a dataset, or file of a folder."""
    from kzoo.use import call, table

    table.check_format(out)
    chosen = call.dataset_options(data, options or ())
    with _importing_tensorflow():
        from kzoo.use.embed import Wanted, embed_data

    console = make_console()
    found = embed_data(place, Wanted(data, tuple(splits or ()), chosen, feature), out, console)
    console.print(f"{len(found):,} embeddings of width {found.vectors.shape[1]} are in [bold]{marked(out)}[/bold]")


@_command
def check(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Methods or backbones.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run the conformance suite on installed methods or backbones; takes a minute each."""
    from kzoo.plugins import registry

    for name in names:
        registry.find_any(name)  # a wrong name is told at once
    with _importing_tensorflow():
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


@_command
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


@_command
def doctor(
    full: Annotated[bool, typer.Option("--full", help="Also import TensorFlow and list its devices.")] = False,
    debug: Debug = False,
) -> None:
    """Examine this installation: versions, plugins, processors."""
    from kzoo.cli import doctor as diagnose

    with _without_chatter():
        findings = diagnose.examine(full=full)
    diagnose.print_findings(make_console(), findings)
    if findings.exit_code:
        raise typer.Exit(findings.exit_code)
