"""Whether `"module:attribute"` names something, asked without importing the module: a method's brings TensorFlow."""

import ast
import importlib.machinery
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

_DYNAMIC = ("__getattr__", "globals", "exec", "vars", "setattr", "*")  # what may define names that no reader can see


def missing(target: str) -> str:
    """What of a target does not exist, "module 'a.b'" or "'C' in a/b.py"; "" where all does, or cannot be told.

    It cannot be told where a module has no source, or defines names as it runs. Only the first part of a dotted
    attribute is looked for.
    """
    module, _, attribute = target.partition(":")
    name = attribute.partition(".")[0]
    if module in sys.modules:
        return "" if hasattr(sys.modules[module], name) else f"'{name}' in module '{module}'"
    spec = _find(module)
    if spec is None:
        return f"module '{module}'"
    if not (isinstance(spec.loader, importlib.machinery.SourceFileLoader) and spec.origin):
        return ""
    source = Path(spec.origin).read_text(encoding="utf-8")
    if any(f"\n{start}" in source for start in (f"class {name}(", f"class {name}:", f"def {name}(")):
        return ""  # the usual case, without parsing
    try:
        names = set(_names(ast.parse(source).body))
    except SyntaxError as error:
        return f"'{name}' in {spec.origin}: line {error.lineno} is not Python"
    return "" if name in names or not names.isdisjoint(_DYNAMIC) else f"'{name}' in {spec.origin}"


def source_of(module: str) -> Path:
    """The file of a module's source. Raises ModuleNotFoundError where there is none."""
    spec = _find(module)
    if spec is None or not spec.origin:
        raise ModuleNotFoundError(f"no source of module '{module}'", name=module)
    return Path(spec.origin)


def resource(place: str) -> Path:
    """The file that `"package:path"` names, whether or not it is there. Raises FileNotFoundError: no such package."""
    package, _, path = place.partition(":")
    spec = _find(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package '{package}'")
    return Path(next(iter(spec.submodule_search_locations)), path)


def _find(module: str) -> ModuleSpec | None:
    """The module's spec. `importlib.util.find_spec` would import its parents, which may be heavy."""
    spec, name = None, ""
    for part in module.split("."):
        path = spec.submodule_search_locations if spec else None
        if spec and path is None:
            return None
        name = f"{name}.{part}".lstrip(".")
        spec = next((found for finder in sys.meta_path if (found := finder.find_spec(name, path))), None)
        if spec is None:
            return None
    return spec


def _names(body: Iterable[ast.stmt]) -> Iterator[str]:
    """The names that a module's statements bind at its top level, in branches too, and those of `_DYNAMIC` it uses."""
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement.name
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and (isinstance(node.ctx, ast.Store) or node.id in _DYNAMIC):
                yield node.id
            elif isinstance(node, ast.alias):
                yield node.asname or node.name.partition(".")[0]
            elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name
