"""What the source files say: docstrings of modules and classes, names of tests. Read, never imported."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from kzoo.plugins.locate import source_of


@cache
def parsed(module: str) -> ast.Module:
    """The module's source, parsed."""
    return ast.parse(source_of(module).read_text("utf-8"))


def lineage(target: str) -> Iterator[tuple[str, ast.ClassDef]]:
    """(module, class) of a target "module:Class" and of the bases that a plugin brings, the nearest first."""
    module, _, name = target.partition(":")
    for node in parsed(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield module, node
            for base in node.bases:
                yield from lineage(f"{_home(module, ast.unparse(base))}:{ast.unparse(base)}")


def _home(module: str, name: str) -> str:
    """Where a name that a module uses is defined, as far as it is a module of kzoo's plugins; else the module."""
    for node in parsed(module).body:
        imported = isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names)
        if imported and (node.module or "").startswith("kzoo_"):
            return node.module
    return module


def docstring(target: str) -> str:
    """That of a target "module:Class"; of its nearest base where it has none; "" where none has."""
    return next((text for _, node in lineage(target) if (text := ast.get_docstring(node))), "")


def defines(target: str, function: str) -> bool:
    """Whether a target "module:Class", or a base that a plugin brings, has a function of this name."""
    return any(
        isinstance(part, ast.FunctionDef) and part.name == function for _, node in lineage(target) for part in node.body
    )


def signatures(target: str) -> list[str]:
    """The names of the signatures that a method's exports have beside `serving_default` and `serve_bytes`."""
    for _, node in lineage(target):
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and part.name == "signatures":
                dicts = [made for made in ast.walk(part) if isinstance(made, ast.Dict)]
                keys = [key.value for made in dicts[:1] for key in made.keys if isinstance(key, ast.Constant)]
                return [str(key) for key in keys]
    return []


def tests(path: Path) -> list[str]:
    """What the tests of a file say, in words, in their order."""
    found = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)]
    named = sorted((node.lineno, node.name) for node in found if node.name.startswith("test_"))
    return [name.removeprefix("test_").replace("_", " ") for _, name in named]
