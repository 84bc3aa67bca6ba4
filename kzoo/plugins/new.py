"""`kzoo new`: a plugin distribution that installs, passes the suite and trains as it is.

It is made from the folder `template/` beside this file: `method/` or `backbone/`, which call what they bring newmethod
or newbackbone, and `common/`, what all kinds share. `preset/` is for `kzoo pack`.
"""

import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from kzoo.errors import RecipeError
from kzoo.plugins.load import load_plugins
from kzoo.system.files import new_folder

_TEMPLATES = Path(__file__).with_name("template")


def create(name: str, kind: Literal["method", "backbone"], parent: Path) -> Path:
    """Write the distribution `kzoo-<name>` into a new folder of `parent`, and return the folder.

    name: of the method or backbone, `lower_snake_case`.
    Raises RecipeError where the name cannot be used, or the folder exists; then nothing is written.
    """
    _refuse(name, kind, [path for path in _template(kind).values() if path.suffix == ".py"])
    distribution = f"kzoo-{name.replace('_', '-')}"
    folder = parent / distribution
    if folder.exists():
        raise RecipeError(f"{folder} exists already; remove it, or choose another name")
    words = {
        f"kzoo-new{kind}": distribution,
        f"new{kind}": name,
        f"New{kind.capitalize()}": _class_name(name),
    }
    with new_folder(folder) as scratch:
        fill(scratch, kind, words)
    return folder


def fill(folder: Path, kind: str, words: dict[str, str]) -> None:
    """Write the files of a kind's template into a folder; in names and texts, the words are put for their keys."""
    for place, source in _template(kind).items():
        target = folder / _replace(str(place), words)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_replace(source.read_text("utf-8"), words), "utf-8")


def _template(kind: str) -> dict[Path, Path]:
    """Where each file of a distribution goes, and the template that it is made from."""
    return {
        path.relative_to(root): path for root in (_TEMPLATES / "common", _TEMPLATES / kind) for path in _files(root)
    }


def _files(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        if path.is_file() and path.parent.name != "__pycache__":  # pip compiles the template too
            yield path


def _refuse(name: str, kind: str, sources: list[Path]) -> None:
    """Raise RecipeError where a name cannot be used. sources: the Python files that will hold it."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise RecipeError(f"'{name}' cannot name a {kind}; write it as lower_snake_case, for example my_{kind}")
    used = {path.stem for path in sources} | {word for path in sources for word in _identifiers(path)}
    if taken := {name, _class_name(name)} & used:
        raise RecipeError(f"'{name}' cannot name a {kind}: its own code uses {taken.pop()} for something else")
    plugins = load_plugins()
    for record in plugins.records:
        if record.distribution == f"kzoo-{name.replace('_', '-')}" or record.name == name:
            raise RecipeError(f"'{name}' is taken by {record.title}; choose another name")
    for provided in plugins.provided["method"] + plugins.provided["backbone"] + plugins.provided["dataset"]:
        if provided.spec.name == name:
            raise RecipeError(f"'{name}' is taken: {provided.plugin.title} brings it; choose another name")


def _identifiers(path: Path) -> set[str]:
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _replace(text: str, words: dict[str, str]) -> str:
    for old, new in words.items():
        text = text.replace(old, new)
    return text
