"""The page of the conformance suite."""

import ast
from functools import cache
from pathlib import Path

import kzoo
from generator.markdown import page, prose, table

_FILES = sorted((Path(kzoo.__file__).parent / "testing").rglob("*.py"))


def checks_page() -> str:
    """What `kzoo check` asks of a method, of a backbone and of a preset, in its order."""
    parts = [
        "# What the suite checks",
        "`kzoo check NAME` asks this of any installed method, backbone or preset, bundled or a stranger's, in about a "
        "minute; `kzoo.testing.MethodSuite`, `BackboneSuite` and `PresetSuite` make a pytest test of each. A check "
        "that fails says what is wrong and what to do.",
    ]
    kinds = (("Of a method", "METHOD_CHECKS"), ("Of a backbone", "BACKBONE_CHECKS"), ("Of a preset", "PRESET_CHECKS"))
    for title, name in kinds:
        rows = [(f"`{check.removeprefix('check_')}`", prose(_said(check))) for check in _listed(name)]
        parts += [f"## {title}", table(("check", "what it asks"), rows)]
    return page(*parts)


def _listed(name: str) -> list[str]:
    for path in _FILES:
        for node in _body(path):
            target = node.target if isinstance(node, ast.AnnAssign) else None
            target = node.targets[0] if isinstance(node, ast.Assign) else target
            if isinstance(target, ast.Name) and target.id == name:
                return [part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)]
    return []


@cache
def _body(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text("utf-8")).body


def _said(check: str) -> str:
    """A check's docstring, its first paragraph."""
    for path in _FILES:
        for node in _body(path):
            if isinstance(node, ast.FunctionDef) and node.name == check:
                return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
    return ""
