"""A recipe's text as plain data that still knows the line of each key. Inert: no tags, no anchors, no aliases."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from kzoo.errors import PluginError, RecipeError

_SCALARS = SafeConstructor(loader=YAML(typ="safe", pure=True))
_LARGEST = 20_000  # bytes; the YAML parser is pure Python and takes a second for 50 kB. A recipe is some forty lines
_DEEPEST = 50  # open brackets; the parser's time grows faster than their number


Keys = tuple[str | int, ...]  # where a value is: ("method", "options", "temperature")


@dataclass
class Document:
    """A recipe's text as plain data, with the line or the override that each key comes from, and all its problems."""

    source: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Keys, int] = field(default_factory=dict)
    overrides: dict[Keys, str] = field(default_factory=dict)
    problems: list[tuple[int, str, bool]] = field(default_factory=list)  # (order, line of text, is a plugin's)
    unreadable: set[Keys] = field(default_factory=set)

    def read(self) -> bool:
        """Parse the file; False where it holds nothing that could be checked further."""
        path = Path(self.source)
        try:
            if path.stat().st_size > _LARGEST:
                return self._unreadable(f"is larger than {_LARGEST // 1000} kB; a recipe is a short text")
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return self._unreadable("no such file; name a recipe, for example recipes/quickstart.yaml")
        except UnicodeDecodeError:
            return self._unreadable("is not UTF-8 text")
        except OSError as error:
            return self._unreadable(f"cannot be read: {error.strerror}")
        return self.parse(text)

    def parse(self, text: str) -> bool:
        """Parse a text; as `read`."""
        try:
            node = _compose(text)
            self.lines[()] = 1
            if not isinstance(node, MappingNode):
                return self._unreadable(
                    "is not a recipe; write `name: ...`, `data: ...`, `backbone: ...`, `method: ...`"
                )
            self.data = self._plain(node, (), self.lines)
        except YAMLError as error:
            return self._unreadable(*_syntax(error))
        except RecursionError:
            return self._unreadable("is nested too deeply")
        return True

    def override(self, text: str) -> None:
        """Apply one `key=value`."""
        key, equals, value = text.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            self._say(len(self.overrides), f"--set {text}: write key=value, for example train.epochs=10")
            return
        for known in (self.lines, self.overrides):
            for old in [old for old in known if old[: len(path)] == path]:
                del known[old]
        self.overrides[path] = text
        try:
            node = _compose(value)
            plain = None if node is None else self._plain(node, path, {})
        except (YAMLError, RecursionError) as error:
            self.problem(path, _syntax(error)[0] if isinstance(error, YAMLError) else "is nested too deeply")
            return
        section = self.data
        for depth, part in enumerate(path[:-1], start=1):
            if section.get(part) is None:
                section[part] = {}
            section = section[part]
            if not isinstance(section, dict):
                self.problem(path, f"{dotted(path[:depth])} is not a section")
                return
        section[path[-1]] = plain

    def problem(self, path: Keys, message: str, *, plugin: bool = False) -> None:
        """Note what is wrong with the value at a path, unless it could not be read in the first place."""
        if any(path[: len(known)] == known for known in self.unreadable):
            return
        nearest = path
        while nearest and nearest not in self.lines and nearest not in self.overrides:
            nearest = nearest[:-1]
        key = f"{dotted(path)}: " if path else ""
        if nearest in self.overrides:
            where, order = f"--set {self.overrides[nearest]}", 10**9 + list(self.overrides).index(nearest)
            key = "" if nearest == path else key
        else:
            order = self.lines[nearest]
            where = f"{self.source}:{order}"
        self._say(order, f"{where}: {key}{message}", plugin)

    def refuse(self) -> None:
        """Raise where there are problems: all of them, in the order of the file."""
        if not self.problems:
            return
        lines = [line for _, line, _ in sorted(self.problems, key=lambda problem: problem[0])]
        if all(plugin for _, _, plugin in self.problems):
            raise PluginError("\n".join(lines))
        raise RecipeError(lines)

    def _say(self, order: int, line: str, plugin: bool = False) -> None:
        self.problems.append((order, line, plugin))

    def _unreadable(self, message: str, line: int | None = None) -> bool:
        where = self.source if line is None else f"{self.source}:{line}"
        self._say(0, f"{where}: {message}")
        return False

    def _plain(self, node: Node, path: Keys, lines: dict[Keys, int]) -> Any:
        """A YAML node as dicts, lists and scalars. Notes each key's line; reports what a recipe must not hold."""
        if node.anchor is not None:
            return self._forbid(path, "anchors and aliases are not allowed; write the value out")
        tag = str(node.tag).removeprefix("tag:yaml.org,2002:")
        if isinstance(node, ScalarNode):
            if tag in ("str", "timestamp"):
                return node.value
            if tag in ("null", "bool", "int", "float"):
                try:
                    return _SCALARS.construct_object(node)
                except ValueError:
                    return self._forbid(path, f"'{node.value}' is not of type !!{tag}")
        elif tag == "seq":
            return [self._plain(item, (*path, index), lines) for index, item in enumerate(node.value)]
        elif isinstance(node, MappingNode) and tag == "map":
            return self._mapping(node, path, lines)
        return self._forbid(path, f"tag {node.tag} is not allowed; write a plain value")

    def _mapping(self, node: MappingNode, path: Keys, lines: dict[Keys, int]) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode) or str(key.tag).endswith(":merge"):
                self._say(line, f"{self.source}:{line}: keys are plain words; neither '<<' nor lists are")
                continue
            inner = (*path, key.value)
            if key.value in plain:
                self._say(line, f"{self.source}:{line}: {dotted(inner)}: repeated; first on line {lines[inner]}")
                continue
            lines[inner] = line
            plain[key.value] = self._plain(value, inner, lines)
        return plain

    def _forbid(self, path: Keys, message: str) -> None:
        self.problem(path, message)
        self.unreadable.add(path)


def _compose(text: str) -> Node | None:
    """YAML text as nodes, which still know their lines. Raises YAMLError, or RecursionError where it is too deep."""
    depth = 0
    for bracket in re.findall(r"[][{}]", text):
        depth += 1 if bracket in "[{" else -1
        if depth > _DEEPEST:
            raise RecursionError
    return YAML(typ="safe", pure=True).compose(text)


def _syntax(error: YAMLError) -> tuple[str, int | None]:
    """What the YAML parser stumbled over, and the line."""
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        what = " ".join(filter(None, (error.context, error.problem)))
        return f"not YAML: {what}", mark.line + 1 if mark else None
    return f"not YAML: {str(error).splitlines()[0]}", None


def dotted(path: Keys) -> str:
    return ".".join(map(str, path))


def value_at(data: Any, path: str) -> Any:
    """The value at a dotted path of plain data, None where the path leads nowhere."""
    for part in path.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data
