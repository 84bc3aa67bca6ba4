"""An exception as lines for the terminal, and the whole trace of one that nobody foresaw in a file."""

import os
import sys
import tempfile
import traceback

import kzoo
from kzoo.errors import KzooError, RecipeError, printable
from kzoo.system import disk

_LONGEST = 200  # characters of a foreign message


def lines(error: Exception) -> list[str]:
    """What to print: kzoo's own errors and refusals of the disk speak for themselves; any other is told where it arose.

    The trace of such another is written to a file, which its last line names.
    """
    if isinstance(error, RecipeError):
        return [f"error: {printable(problem)}" for problem in error.problems]
    if isinstance(error, KzooError):
        return [f"error: {printable(line)}" for line in str(error).split("\n")]
    if refused := disk.told(error):
        return [f"error: {printable(refused)}"]
    frames = traceback.extract_tb(error.__traceback__)
    where = f"  at {printable(frames[-1].filename)}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return [*filter(None, (f"error: {short(error)}", where, f"  kzoo did not expect this; {_kept(error)}"))]


def short(error: BaseException) -> str:
    """An exception as one short line: its type and how its message begins."""
    text = printable(" ".join(str(error).split()))
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST].rstrip()} ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _kept(error: Exception) -> str:
    """Write the trace; returns where it is, or how to see it where no file can be written."""
    told = f"kzoo {kzoo.__version__}: {' '.join(sys.argv)}\n" + "".join(traceback.format_exception(error))
    try:
        number, path = tempfile.mkstemp(prefix="kzoo-", suffix=".txt")
        with os.fdopen(number, "wb") as file:
            file.write(told.encode(errors="backslashreplace"))
    except OSError:
        return "run it again with --debug for the whole trace"
    return f"the whole trace is in {printable(path)}, and --debug shows it"
