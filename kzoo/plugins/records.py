"""What the records that a plugin yields must be, before anything else looks at them."""

import re
from typing import Any, Literal

from kzoo.options import Options
from kzoo.plugins import locate
from kzoo.specs import PresetSpec

Kind = Literal["method", "backbone", "dataset", "modality", "preset", "format"]

_NAME = r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)?"  # a bridge to another library puts its name before a slash
_PREFIX = r"(?!(tfds|folder):)[a-z][a-z0-9_]*:<[a-z_]+>"  # of datasets; kzoo has two of its own
_NAMES = {"method": re.compile(_NAME), "backbone": re.compile(_NAME), "dataset": re.compile(f"{_NAME}|{_PREFIX}")}
_NAMES["modality"] = _NAMES["format"] = _NAMES["method"]
_NAMES["preset"] = re.compile(rf"{_NAME}\.[a-z0-9][a-z0-9_]*")
_FORMS = {"dataset": ", or prefix:<what>", "preset": ", then '.' and a tag"}
_URL = re.compile(r"(https?|file)://\S+")


class Refused(Exception):
    """A plugin that cannot be used, with what its user can do about it where that is not the usual."""

    def __init__(self, problem: str, remedy: str = ""):
        super().__init__(problem)
        self.remedy = remedy


def check_record(spec: Any, kind: Kind, hook: str, spec_type: Any) -> None:
    """Raise, in words for its author, where what a hook yielded is no sound record."""
    if not isinstance(spec, spec_type):
        raise TypeError(f"{hook} yielded {shortened(spec)}; expected a kzoo.{spec_type.__name__}")
    if not (isinstance(spec.name, str) and _NAMES[kind].fullmatch(spec.name)):
        expected = "lower_snake_case, or family/name" + _FORMS.get(kind, "")
        raise ValueError(f"{hook}: name is {shortened(spec.name)}; expected {expected}")
    if isinstance(spec, PresetSpec):
        _check_preset(spec)
    else:
        _check_code(hook, kind, spec)


def _check_code(hook: str, kind: Kind, spec: Any) -> None:
    """Raise where what a record says of its code does not hold."""
    if not (isinstance(spec.target, str) and re.fullmatch(r"[\w.]+:[\w.]+", spec.target)):
        raise ValueError(f"{hook}: target of '{spec.name}' is {shortened(spec.target)}; expected 'module:attribute'")
    if gone := locate.missing(spec.target):
        raise Refused(f"{kind} '{spec.name}' points to '{spec.target}', and there is no {gone}")
    if not (isinstance(spec.options, type) and issubclass(spec.options, Options)):
        raise TypeError(
            f"{hook}: options of '{spec.name}' is {shortened(spec.options)}; expected a subclass of kzoo.Options"
        )


def _check_preset(spec: PresetSpec) -> None:
    """Raise where what a preset's record says of its weights does not hold, as far as names tell."""
    if not re.fullmatch(r"[0-9a-f]{64}", str(spec.sha256)):
        raise ValueError(f"kzoo_presets: sha256 of '{spec.name}' is {shortened(spec.sha256)}; expected 64 hex digits")
    for what in ("weights", "recipe", "answers", "vocabulary"):
        place = getattr(spec, what)
        if (what == "weights" and _URL.fullmatch(str(place))) or (what != "weights" and place == ""):
            continue
        if not (isinstance(place, str) and re.fullmatch(r"[\w.]+:[^:]+", place)):
            raise ValueError(f"kzoo_presets: {what} of '{spec.name}' is {shortened(place)}; expected 'package:path'")
        try:
            there = locate.resource(place).is_file()
        except FileNotFoundError:
            there = False
        if not there:
            raise Refused(f"preset '{spec.name}' points to '{place}', and there is no such file")


def shortened(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
