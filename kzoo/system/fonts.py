"""Which of the installed fonts have the letters of a text, so that no picture shows boxes in their place."""

import functools
import warnings
from collections.abc import Iterable

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

HOUSE = "DejaVu Sans"  # comes with matplotlib, so the figures look alike everywhere


def families(texts: Iterable[str]) -> list[str]:
    """The font families to draw the texts with, in order of preference: kzoo's own, then those with what it lacks."""
    missing = _letters(texts) - _covered(HOUSE)
    chosen = [HOUSE]
    for family in _others():
        if found := missing & _covered(family):
            chosen.append(family)
            missing -= found
        if not missing:
            break
    return chosen


def writable(text: str) -> bool:
    """Whether the installed fonts together have every letter of a text."""
    return not unwritable([text])


def unwritable(texts: Iterable[str]) -> set[str]:
    """The letters of the texts that no installed font has."""
    letters = _letters(texts)
    return {letter for letter in letters if not any(letter in _covered(family) for family in [HOUSE, *_others()])}


def warn_of(letters: set[str]) -> None:
    """Say that letters cannot be drawn, and what to do."""
    if letters:
        shown = "".join(sorted(letters)[:8]) + ("..." if len(letters) > 8 else "")
        warnings.warn(
            f"no installed font has the letters {shown}: pictures show the numbers of these classes; install a font "
            "that has them, such as Noto Sans of that script",
            stacklevel=2,
        )


def _letters(texts: Iterable[str]) -> set[str]:
    return {letter for text in texts for letter in text if letter.isprintable() and not letter.isspace()}


@functools.cache
def _files() -> dict[str, str]:
    """A file of each family that is upright and not bold, by the family's name."""
    found: dict[str, str] = {}
    for entry in font_manager.fontManager.ttflist:
        if entry.style == "normal" and entry.weight in (400, "normal", "regular", "book"):
            found.setdefault(entry.name, entry.fname)
    return found


def _others() -> list[str]:
    """All but kzoo's own, and but those that have a box for every letter there is."""
    return sorted(family for family in _files() if family != HOUSE and not family.startswith("Last Resort"))


@functools.cache
def _covered(family: str) -> frozenset[str]:
    """The letters that a family has."""
    try:
        return frozenset(map(chr, FT2Font(_files()[family]).get_charmap()))
    except (KeyError, OSError, RuntimeError):
        return frozenset()
