"""What checks of either kind of subject share: the record, and the options."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from kzoo.options import Options
from kzoo.plugins import describe, registry, targets
from kzoo.testing.subjects import Subject

_NAME = r"([a-z][a-z0-9_]*/)?[a-z][a-z0-9_]*"
_HEAVY = ("tensorflow", "keras", "torch", "jax")
_UNLISTED = "no_such_option"


def check_listing(subject: Subject) -> None:
    """`kzoo list` and `kzoo show` answer without TensorFlow: neither the plugin nor its options import it."""
    spec = subject.spec
    plugin = registry.provider(spec)
    modules = [plugin.module, spec.options.__module__] if plugin else [spec.options.__module__]
    code = (
        f"import importlib, sys; [importlib.import_module(name) for name in {modules}]; "
        f"print(*[name for name in {_HEAVY} if name in sys.modules])"
    )
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        raise subject.fault(f"importing {' and '.join(modules)} fails: {' '.join(said)}", "make them import alone")
    if heavy := done.stdout.split():
        raise subject.fault(
            f"importing {' and '.join(modules)} imports {', '.join(heavy)}, so that listing takes seconds",
            "import it only in the module that the record's target names",
        )


def check_name(subject: Subject) -> None:
    """The record's name and summary are such as recipes and tables can hold."""
    spec = subject.spec
    if not re.fullmatch(_NAME, spec.name):
        raise subject.fault(f"the name {spec.name!r} is not lower_snake_case", "rename it in its record")
    if not spec.summary or "\n" in spec.summary:
        raise subject.fault("the summary is not one line", "give its record a summary of one line")


def check_options(subject: Subject) -> None:
    """Options are documented, refuse nonsense and unknown keys, cannot be changed, and survive a recipe."""
    spec = subject.spec
    for row in describe.option_facts(spec.options):
        if not row["description"]:
            raise subject.fault(
                f"option '{row['name']}' is not documented", 'give it Field(default, description="...")'
            )
    options = targets.validate_options(spec, subject.setup.options)
    values = options.model_dump()
    if not _refuses(spec.options, values | {_UNLISTED: 1}):
        raise subject.fault("unknown options are accepted", "derive its options from kzoo.Options, extra='forbid'")
    for where, kind in _changeable(options):
        raise subject.fault(
            f"option '{where}' is a {kind}, which can be changed after it was checked",
            "annotate it as a tuple, or as an Options class of its own",
        )
    for path, nonsense in _nonsense(options):
        if not _refuses(spec.options, _with(values, path, nonsense)):
            raise subject.fault(
                f"option '{'.'.join(path)}' accepts {nonsense}",
                "give its Field the range that makes sense: ge=, gt=, le=, lt=",
            )
    name = next(iter(spec.options.model_fields), None)
    if name is not None:
        try:
            setattr(options, name, getattr(options, name))
        except ValidationError:
            pass
        else:
            raise subject.fault(
                "options can be changed after they were checked", "derive its options from kzoo.Options, frozen"
            )
    try:
        again = spec.options.model_validate_json(options.model_dump_json(), strict=True)
    except ValueError as error:  # pydantic's, of either direction
        said = " ".join(str(error).split())[:200]
        raise subject.fault(
            f"its options cannot be written in a recipe and read again: {said}", "give them types that YAML has"
        ) from None
    if again != options:
        raise subject.fault("options differ once they were written in a recipe", "give them types that YAML has")


def _changeable(options: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The options whose value is a list, a dict or a set: where, and which of them."""
    for name, value in options:
        if isinstance(value, BaseModel):
            yield from _changeable(value, f"{prefix}{name}.")
        elif isinstance(value, list | dict | set):
            yield f"{prefix}{name}", type(value).__name__


def _nonsense(options: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """For every number and list of whole ones among the options: where, and a value that no setting can mean."""
    for name, value in options:
        if isinstance(value, Options):
            yield from _nonsense(value, (*path, name))
        elif isinstance(value, float):
            yield (*path, name), math.nan
            yield (*path, name), -1e9
        elif isinstance(value, int) and not isinstance(value, bool):
            yield (*path, name), -(10**9)
        elif isinstance(value, tuple) and value and all(type(item) is int for item in value):
            yield (*path, name), (-(10**9),) * len(value)


def _with(values: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    name, *deeper = path
    return values | {name: _with(values[name], tuple(deeper), value) if deeper else value}


def _refuses(options: type[Options], values: dict[str, Any]) -> bool:
    try:
        options.model_validate(values)
    except ValidationError:
        return True
    return False
