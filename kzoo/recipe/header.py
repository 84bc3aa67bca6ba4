"""What a recipe says of itself in the comments before its first key: what it shows and costs, the published figure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

_HEADING = re.compile(r"# ([A-Z][A-Za-z' ]+):\s*(.*)")


@dataclass(frozen=True)
class Outline:
    """A recipe's file, its name, what it puts together, and its header: heading → text, in one line."""

    path: Path
    name: str
    method: str
    data: str
    backbone: str
    header: dict[str, str]


def header(text: str) -> dict[str, str]:
    """Heading → text of the comments that a recipe begins with; a line without one goes on."""
    said: dict[str, list[str]] = {}
    heading = ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if found := _HEADING.fullmatch(line):
            heading = found[1]
            said[heading] = [found[2]]
        elif heading:
            said[heading].append(line.lstrip("# "))
    return {heading: " ".join(parts).strip() for heading, parts in said.items()}


def outline(path: Path) -> Outline | None:
    """A recipe without checking it; None where the file is not one, or is one that cannot be read."""
    try:
        text = path.read_text("utf-8")
        data = YAML(typ="safe").load(text)
        method, source, backbone = (str(data[section]["name"]) for section in ("method", "data", "backbone"))
        return Outline(path, str(data["name"]), method, source, backbone, header(text))
    except (OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError):
        return None


def outlines(folders: Sequence[Path]) -> list[Outline]:
    """The recipes below some folders: those that lie in one first, then those of its sub-folders, by name."""
    paths = [
        path for folder in folders for path in sorted(folder.rglob("*.yaml"), key=lambda path: (len(path.parts), path))
    ]
    return [found for path in paths if (found := outline(path))]
