"""What follows a training, where a piece of it fails."""

import io

from rich.console import Console

from kzoo.report import _drawing


def test_a_picture_that_fails_is_one_line_and_ends_nothing(tmp_path):
    console = Console(width=200, file=io.StringIO())
    with _drawing(tmp_path / "views.png", console):
        raise RuntimeError("no\nroom [bold]left")
    assert console.file.getvalue() == f"{tmp_path / 'views.png'}: not drawn: RuntimeError: no room [bold]left\n"


def test_a_picture_may_be_interrupted(tmp_path):
    """Ctrl-C is no fault of the picture."""
    heard = []
    try:
        with _drawing(tmp_path / "views.png", Console(file=io.StringIO())):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        heard.append(True)
    assert heard == [True]
