"""What kzoo writes to the terminal: in any encoding, without what steers a terminal, and to a reader that may leave.

Light: Rich is imported, TensorFlow is not.
"""

import os
import sys
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.status import Status
from rich.table import Table

from kzoo.errors import KzooError, printable

_WIDEST = 1000  # characters of a line in a file


def marked(text: object) -> str:
    """A text of others, such as a path, fit to stand in Rich's markup: nothing in it is a tag or steers a terminal."""
    return escape(printable(str(text)))


def make_console(stderr: bool = False) -> Console:
    """A console on the standard output or error, for tables, bars and lines.

    In a notebook, also in a command that a cell runs (`!kzoo`), nothing is drawn over, as a cell keeps all that was
    ever written: no bars, but colours.
    """
    stream = _Stream(stderr)
    in_notebook = "JPY_PARENT_PID" in os.environ
    shows_colours = in_notebook and ("ipykernel" in sys.modules or stream.isatty())
    return _Console(
        highlight=False,
        stderr=stderr,
        file=cast(IO[str], stream),
        force_jupyter=False,  # Rich's own way needs ipywidgets
        force_terminal=False if in_notebook else None,
        emoji=False,  # a path may hold ":apple:"
        color_system="standard" if shows_colours else "auto",
    )


def tell(console: Console, line: str, style: str = "") -> None:
    """Print a sentence as it is: one line in a file or a cell; a terminal breaks it between words, never in one."""
    if console.is_terminal:
        line = textwrap.fill(line, console.width, break_long_words=False, break_on_hyphens=False)
    console.print(line, style=style, markup=False, soft_wrap=True)


def print_rows(console: Console, table: Table) -> None:
    """Print a table of one line a row: as wide as the terminal or the cell, but whole in a file or a pipe."""
    if room(console) == console.width:
        console.print(table)
        return
    width, console.width = console.width, room(console)
    try:
        with console.capture() as held:
            console.print(table)
    finally:
        console.width = width
    for line in held.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def room(console: Console) -> int:
    """Characters that a line of a table may have."""
    bounded = console.is_terminal or {"COLUMNS", "JPY_PARENT_PID"} & set(os.environ)
    return console.width if bounded else _WIDEST


def say(text: str, *, stderr: bool = False) -> None:
    """Write a line as it is. Of JSON, whose text is ASCII, and of lines that were made printable before."""
    stream = _Stream(stderr)
    stream.write(f"{text}\n")
    stream.flush()


def settle_streams() -> None:
    """Have all three standard streams, none of which stops at a character that its encoding lacks.

    A stream that was closed goes to /dev/null, else the next file that is opened would take its place.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, for as long as the process lives
        with suppress(AttributeError):  # a stream of someone's own, in a notebook
            getattr(sys, name).reconfigure(errors="backslashreplace")
    warnings.formatwarning = _format_warning


def give_up_output() -> None:
    """Write no more: the reader has left, or the disk is full. Else Python would complain again at its end."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Stream:
    """A standard stream by name, as it is now; what it refuses is said as what it is, not as a fault of a run."""

    def __init__(self, stderr: bool):
        self._name = "stderr" if stderr else "stdout"

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(sys, self._name), name)

    def write(self, text: str) -> int:
        with self._refusing() as stream:
            return stream.write(text)

    def flush(self) -> None:
        with self._refusing() as stream:
            stream.flush()

    @contextmanager
    def _refusing(self) -> Iterator[TextIO]:
        try:
            yield getattr(sys, self._name)
        except BrokenPipeError:
            raise
        except OSError as error:
            name = "error" if self._name == "stderr" else "output"
            raise KzooError(f"the standard {name} cannot be written: {error.strerror}") from error


class _Console(Console):
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        ascii_only = (options or self.options).ascii_only
        for segment in super().render(renderable, options):
            text, style, control = segment
            if not control:
                text = "\n".join(map(printable, text.split("\n")))
                if ascii_only:
                    text = text.replace("…", ".")  # of the same width, else tables lose their columns
                segment = Segment(text, style)
            yield segment

    def status(self, status: RenderableType, *, spinner: str = "dots", **how: Any) -> Status:
        return super().status(status, spinner="line" if self.options.ascii_only else spinner, **how)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        raise BrokenPipeError


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning of kzoo's own is its text alone; any other says where it arose."""
    text = "\n".join(map(printable, str(message).split("\n")))
    if not issubclass(category, UserWarning):
        text = f"{printable(filename)}:{lineno}: {category.__name__}: {text}"
    return f"warning: {text}\n"
