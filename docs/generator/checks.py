"""The page of the conformance suite."""

import ast

from generator.markdown import page, prose, table
from generator.source import parsed


def checks_page() -> str:
    """What `kzoo check` asks of a method, of a backbone and of a preset, in its order."""
    parts = [
        "# What the suite checks",
        "`kzoo check NAME` asks this of any installed method, backbone or preset, bundled or a stranger's, in about a "
        "minute; `kzoo.testing.MethodSuite`, `BackboneSuite` and `PresetSuite` make a pytest test of each. A check "
        "that fails says what is wrong and what to do.",
    ]
    for title, module, name in (
        ("Of a method", "kzoo.testing.method_checks", "METHOD_CHECKS"),
        ("Of a backbone", "kzoo.testing.backbone_checks", "BACKBONE_CHECKS"),
        ("Of a preset", "kzoo.testing.preset_checks", "PRESET_CHECKS"),
    ):
        rows = [(f"`{check.removeprefix('check_')}`", prose(_said(module, check))) for check in _listed(module, name)]
        parts += [f"## {title}", table(("check", "what it asks"), rows)]
    return page(*parts)


def _listed(module: str, name: str) -> list[str]:
    for node in parsed(module).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return [part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)]
    return []


def _said(module: str, check: str) -> str:
    """A check's docstring, its first paragraph: of the module that lists it, or that it takes it from."""
    for node in parsed(module).body:
        if isinstance(node, ast.FunctionDef) and node.name == check:
            return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == check for alias in node.names):
            return _said(node.module, check)
    return ""
