"""What the source of kzoo and its plugins must be, read without running it."""

import ast
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import kzoo

ROOT = Path(__file__).parents[1]
SHIPPED = sorted([*(ROOT / "kzoo").rglob("*.py"), *ROOT.glob("plugins/*/src/**/*.py")])


def test_nothing_that_must_happen_stands_in_an_assert():
    """`python -O` leaves these out, with all that their conditions do."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SHIPPED
        if "template" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert len(SHIPPED) > 100
    assert found == []


PACKAGES = ["kzoo", *(f"kzoo.{module.name}" for module in pkgutil.iter_modules(kzoo.__path__) if module.ispkg)]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_name_is_not_that_of_a_module_beside_it(package):
    """Else `import package.name` gives now the one and now the other."""
    module = importlib.import_module(package)
    beside = {found.name for found in pkgutil.iter_modules(module.__path__)}
    shadowed = {name for name in beside & set(dir(module)) if not isinstance(getattr(module, name), ModuleType)}
    assert shadowed == set()
