"""What every command goes through: errors as lines and an exit code, and TensorFlow only when it is needed."""

import functools
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from kzoo.errors import KzooError, PluginError
from kzoo.system import failures, surroundings
from kzoo.system.console import give_up_output, make_console, say, tell

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

SILENT = "3"
_CHATTER = re.compile(rb"[IWE]\d{4} |WARNING: All log messages before absl|To enable the following instructions")

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value; may be repeated.")
]
NewRunFolder = Annotated[
    Path | None, typer.Option("--run-dir", metavar="DIR", help="Folder of the run; runs/<name> where left out.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of the run.")]


def command(function: Callable[..., None]) -> Callable[..., None]:
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
    console = make_console(stderr=True)
    for line in failures.lines(error):
        tell(console, line, style="red" if line.startswith("error: ") else "")


def _print_plugins_own(error: Exception) -> None:
    """The tracebacks of the broken plugins, where a plugin is missing or broken: they were loaded long before."""
    if isinstance(error, PluginError):
        from kzoo.plugins.load import load_plugins

        for record in load_plugins().broken:
            say(f"\n{record.title}:\n{record.traceback}", stderr=True)


@contextmanager
def importing_tensorflow() -> Iterator[None]:
    """Import what builds and trains, in surroundings that are as recipes expect them, and without its chatter."""
    surroundings.prepare()
    with without_chatter():
        yield
    surroundings.settle_keras()


@contextmanager
def without_chatter() -> Iterator[None]:
    """Keep back what TensorFlow's C++ side logs while it is imported; only later does it heed TF_CPP_MIN_LOG_LEVEL.

    Everything else that is written to the error stream meanwhile is passed on afterwards.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != SILENT:  # someone wants to read it
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
