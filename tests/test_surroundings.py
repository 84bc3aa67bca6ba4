"""What a process finds around itself: terminal, disk, environment. Each decides no result, or is refused."""

import errno
import json
import logging
import os
import subprocess
import sys
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest
from rich.console import Console

from kzoo.cli import app as cli
from kzoo.data.cache import prepare_once
from kzoo.errors import DataError, RecipeError, SurroundingsError
from kzoo.system import disk, failures, surroundings
from kzoo.system.console import make_console, marked, tell
from kzoo.system.files import write_json

KZOO = [sys.executable, "-m", "kzoo"]
HOSTILE = "a\nb\x1b[31m[/bold]\udce9"  # a line break, an escape sequence, Rich's markup, a byte that is not UTF-8
SHOWN = r"a\nb\x1b[31m[/bold]\xe9"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell in which $KZOO is kzoo."""
    environ = {**os.environ, "KZOO": " ".join(KZOO), "COLUMNS": "100", **environment}
    return subprocess.run(["bash", "-c", command], env=environ, capture_output=True)


# ---- the terminal ----------------------------------------------------------------------------------------------------


@pytest.fixture
def screen(monkeypatch):
    """screen(encoding) -> a function that answers what was written to the standard output since, as bytes."""

    def put(encoding: str):
        raw = BytesIO()
        monkeypatch.setattr(sys, "stdout", TextIOWrapper(raw, encoding, errors="backslashreplace"))
        return lambda: (sys.stdout.flush(), raw.getvalue())[1]

    return put


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_no_text_of_others_steers_the_terminal(screen, encoding):
    read = screen(encoding)
    console = make_console()
    console.print(f"[bold]{marked(HOSTILE)}[/bold]")
    assert read() == SHOWN.encode() + b"\n"
    console.print("\x1b[31mred", markup=False)  # text that nobody has made printable before
    assert read().splitlines()[1:] == [rb"\x1b[31mred"]


def test_a_sentence_breaks_between_words_in_a_terminal_alone():
    text = "see [b] :apple: /a/path/longer/than/a/line now"
    for terminal, lines in ((True, ["see [b] :apple:", "/a/path/longer/than/a/line", "now"]), (False, [text])):
        console = Console(width=16, file=StringIO(), force_terminal=terminal, emoji=False, highlight=False)
        tell(console, text)
        assert console.file.getvalue().splitlines() == lines


def test_several_runs_in_one_process_are_not_warned_of_as_a_loop():
    said = {"5 out of the last 5 calls to f triggered tf.function retracing.": False, "Gradients do not exist": True}
    for text, shown in said.items():
        assert surroundings._is_no_advice_on_tracing(logging.makeLogRecord({"msg": text})) is shown


def test_no_emoji_takes_the_place_of_a_path(screen):
    read = screen("utf-8")
    make_console().print("runs/:apple:")
    assert read() == b"runs/:apple:\n"


def test_a_console_without_an_ellipsis_keeps_its_columns(screen):
    written = {}
    for encoding in ("utf-8", "ascii"):
        read = screen(encoding)
        console = make_console()
        console.width = 8
        console.print("0123456789 no", no_wrap=True, overflow="ellipsis")
        written[encoding] = read().decode(encoding)
    assert written == {"utf-8": "0123456…\n", "ascii": "0123456.\n"}


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (DataError(HOSTILE.replace("\n", "")), ["error: " + SHOWN.replace(r"\n", "")]),
        (RecipeError([HOSTILE, "two"]), [f"error: {SHOWN}", "error: two"]),
    ],
)
def test_messages_are_printable(error, lines):
    assert failures.lines(error) == lines


def test_a_foreign_message_is_short_and_one_line_and_its_trace_is_kept():
    try:
        raise ValueError("\x1b[31m" + "x\n" * 5000 + "\udce9")
    except ValueError as error:
        first, where, last = failures.lines(error)
    assert first == r"error: ValueError: \x1b[31m" + " ".join("x" * 96) + " ..."
    assert where.startswith(f"  at {__file__}:")
    path = Path(last.split("the whole trace is in ")[1].removesuffix(", and --debug shows it"))
    assert path.read_text().count("x\n") == 5000
    path.unlink()


def test_a_trace_that_cannot_be_kept_is_had_by_debug(monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(failures.tempfile, "mkstemp", full)
    assert failures.lines(ValueError("x"))[-1].endswith("run it again with --debug for the whole trace")


def test_a_reader_that_leaves_a_full_disk_and_closed_streams_end_a_command_as_usual():
    left = shell("$KZOO list | true; echo ${PIPESTATUS[0]}")
    assert (left.stdout, left.stderr) == (b"141\n", b"")
    full = shell("$KZOO list > /dev/full")
    assert (full.returncode, full.stderr.decode()) == (
        1,
        "error: the standard output cannot be written: No space left on device\n",
    )
    closed = shell("$KZOO list <&- >&- 2>&-")
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, b"", b"")
    poor = shell("$KZOO list", LC_ALL="POSIX", PYTHONIOENCODING="ascii", PYTHONUTF8="0", TERM="dumb", HOME="/none")
    assert (poor.returncode, poor.stderr) == (0, b"")


# ---- the disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "f"), errno.ENOSPC),
        (OSError("40 requested and 24 written"), errno.ENOSPC),  # numpy
        (OSError("Unable to open file (errno = 30, error message = 'Read-only file system')"), errno.EROFS),  # h5py
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "f"), None),
        (ValueError("No space left on device"), None),
    ],
)
def test_what_the_disk_refuses_is_told_from_other_faults(error, number):
    assert disk.refusal(error) == number


def test_a_refusal_names_the_place_or_the_file_elsewhere(tmp_path):
    with pytest.raises(DataError) as caught, disk.writing(tmp_path, DataError, "set X"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value) == f"{tmp_path}: cannot be written: No space left on device; make room there; set X"
    with pytest.raises(DataError) as caught, disk.writing(tmp_path, DataError, "set X"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/a.png")
    assert str(caught.value).startswith("/elsewhere/a.png: Permission denied; ")
    with pytest.raises(ValueError, match="mine"), disk.writing(tmp_path, DataError):
        raise ValueError("mine")


def test_what_lies_where_something_else_should_is_named_in_one_line(tmp_path):
    (tmp_path / "evaluation.json").mkdir()
    (tmp_path / "exports").write_text("a file")
    for act, place, words in (
        (lambda: write_json(tmp_path / "evaluation.json", {}), "evaluation.json", "Is a directory"),
        (lambda: (tmp_path / "exports" / "r").mkdir(), "exports/r", "Not a directory"),
        (lambda: (tmp_path / "exports").mkdir(), "exports", "File exists"),
    ):
        with pytest.raises(OSError, match=words) as caught:
            act()
        assert failures.lines(caught.value) == [
            f"error: {tmp_path / place}: {words}; something else lies there; move it away"
        ]


def test_a_cache_that_fills_up_meanwhile_says_where_and_what_to_set(tmp_path):
    def write(scratch: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=f"{tmp_path}: cannot be written: No space .*; set KZOO_CACHE to a folder"):
        prepare_once(tmp_path / "place", write)
    assert list(tmp_path.iterdir()) == []


def test_any_command_tells_a_full_disk_in_one_line(monkeypatch, tmp_path, capsys):
    def create(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "file"))

    monkeypatch.setattr("kzoo.plugins.new.create", create)
    with pytest.raises(SystemExit) as stop:
        cli.main(["new", "something"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/file: No space left on device; make room there\n"


# ---- the environment -------------------------------------------------------------------------------------------------


@pytest.fixture
def keras_json(monkeypatch, tmp_path):
    """keras_json(text): what Keras' configuration file says. The environment says nothing."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for name in ("KERAS_BACKEND", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    return (tmp_path / "keras.json").write_text


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("KERAS_BACKEND", "jax", "Keras is set to the backend 'jax'; kzoo needs KERAS_BACKEND=tensorflow"),
        ("KERAS_MAX_EPOCHS", "1", "KERAS_MAX_EPOCHS=1: Keras would cut every training short; unset it, and set train."),
        ("KERAS_MAX_STEPS_PER_EPOCH", "2", "KERAS_MAX_STEPS_PER_EPOCH=2: Keras would cut"),
    ],
)
def test_an_environment_that_would_be_misunderstood_is_refused(keras_json, monkeypatch, name, value, told):
    surroundings.prepare()
    monkeypatch.setenv(name, value)
    with pytest.raises(SurroundingsError) as caught:
        surroundings.prepare()
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"floatx": "float8"}', "floatx is 'float8'"),
        ('{"image_data_format": "NCHW"}', "image_data_format is 'NCHW'"),
        ('{"epsilon": 1}', "epsilon is 1;"),
        ("[1]", "holds no settings"),
    ],
)
def test_a_file_of_keras_that_stops_keras_is_refused_by_name(keras_json, tmp_path, text, told):
    keras_json(text)
    with pytest.raises(SurroundingsError, match=r"keras\.json: ") as caught:
        surroundings.prepare()
    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["", "not JSON", '{"backend": "jax"}', '{"floatx": "float16"}'])
def test_what_keras_is_set_to_does_not_matter_to_a_command(keras_json, monkeypatch, text):
    keras_json(text)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as a notebook leaves it
    surroundings.prepare()
    assert os.environ["MPLBACKEND"] == "agg"
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


def test_settings_of_keras_change_no_command_and_are_refused_by_hand(tmp_path):
    """In a process of its own, as Keras reads its settings when it is imported."""
    settings = {"floatx": "float64", "epsilon": 0.5, "backend": "jax", "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    code = """
import json, keras, kzoo
from kzoo.cli import door
from kzoo.errors import SurroundingsError
assert keras.config.image_data_format() == "channels_first"
try:
    kzoo.build_backbone("convnet4", input_shape=(32, 32, 3))
except SurroundingsError as error:
    by_hand = str(error)
with door.importing_tensorflow():
    pass
config = keras.config
print(json.dumps([by_hand, config.image_data_format(), config.floatx(), config.epsilon(), config.dtype_policy().name]))
"""
    environ = {**os.environ, "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "tensorflow"}
    answer = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    by_hand, *settled = json.loads(answer.stdout)
    assert by_hand == (
        "Keras is set to channels_first; kzoo's models need keras.config.set_image_data_format('channels_last')"
    )
    assert settled == ["channels_last", "float32", 1e-7, "float32"]
