"""What the source of kzoo and its plugins must be, read without running it."""

import ast
import graphlib
import importlib
import pkgutil
import tomllib
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


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in (ROOT / "kzoo").rglob("*.py") if "template" not in path.parts}


def arrows(source: str) -> set[str]:
    """The modules of kzoo that a source imports when it runs, within functions too; not for types alone."""
    found = set()
    waiting = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                inner if (inner := f"{node.module}.{name.name}") in MODULES else node.module for name in node.names
            }
        waiting += ast.iter_child_nodes(node)
    return found & MODULES.keys() - {"kzoo"}


def test_imports_go_one_way():
    """No module imports, however far round, what imports it."""
    graph = {name: arrows(path.read_text()) - {name} for name, path in MODULES.items()}
    assert sum(map(len, graph.values())) > 200
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, and names the circle
    assert order.index("kzoo.errors") < order.index("kzoo.recipe.load") < order.index("kzoo.cli.app")


def room_of(module: str) -> str:
    """The folder that a module lies in; a module that lies in none is a room of its own."""
    return ".".join(module.split(".")[:2])


def test_arrows_between_rooms_go_one_way():
    """Seen from outside, where a folder is one thing: no folder imports, however far round, what imports it."""
    graph: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        if name != "kzoo":
            rooms = {room_of(other) for other in arrows(path.read_text())}
            graph.setdefault(room_of(name), set()).update(rooms - {room_of(name)})
    order = list(graphlib.TopologicalSorter(graph).static_order())
    ways = ["errors", "system", "data", "base", "method", "runs", "train", "testing", "cli"]
    places = [order.index(f"kzoo.{room}") for room in ways]
    assert places == sorted(places)


def test_a_circle_would_be_noticed():
    late = "def f():\n    from kzoo.cli.app import main\n"
    only_types = "if TYPE_CHECKING:\n    from kzoo.cli.app import main\n"
    assert arrows(late) == {"kzoo.cli.app"}
    assert arrows(only_types) == set()
    with pytest.raises(graphlib.CycleError):
        list(
            graphlib.TopologicalSorter(
                {"kzoo.cli.app": arrows("import kzoo.errors"), "kzoo.errors": arrows(late)}
            ).static_order()
        )


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")))
def test_a_bundled_plugin_says_on_its_page_what_it_is(folder):
    """What an index of packages shows of it."""
    project = tomllib.loads((ROOT / "plugins" / folder / "pyproject.toml").read_text())["project"]
    assert {"description", "readme", "license", "requires-python", "keywords", "classifiers"} <= project.keys()
    readme = (ROOT / "plugins" / folder / project["readme"]).read_text()
    assert readme.startswith(f"# {project['name']}\n")
    assert project["description"] in readme
