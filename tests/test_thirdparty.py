"""A stranger's plugin, from its wheel to its removal, in an environment that holds kzoo's wheel and nothing else of it.

The plugin lies under `thirdparty/`. It was written from `docs/first-plugin.md`, and imports what `docs/api.md` names.
"""

import ast
import importlib.util
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "thirdparty/kzoo-ressl"


@pytest.fixture(scope="module")
def stranger(fresh_environment):
    """An environment in which somebody ran `pip install kzoo-ressl`, and which got kzoo with it."""
    fresh_environment.build(SOURCE)
    fresh_environment.install("kzoo-ressl")
    return fresh_environment


@pytest.fixture(scope="module")
def trained(stranger) -> str:
    """What `kzoo train` printed of the plugin's own recipe on two devices."""
    answer = stranger.run("kzoo", "train", str(SOURCE / "recipes/ressl.yaml"), "--set", "train.devices=2")
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def run(stranger, trained) -> Path:
    """The run that this left."""
    return stranger.folder / "runs/ressl"


def test_what_runs_is_what_the_wheels_hold(stranger):
    where = "import kzoo, kzoo_ressl, sys; print(kzoo.__file__); print(kzoo_ressl.__file__); print(*sys.path)"
    core, plugin, path = stranger.run("python", "-c", where).stdout.splitlines()
    site = Path(core).parents[1]
    assert site == Path(plugin).parents[1]
    assert site.is_relative_to(stranger.folder)
    assert str(Path(__file__).parents[1]) not in path.split()
    for name in ("kzoo-0.1.0", "kzoo_ressl-2.5.1"):
        with zipfile.ZipFile(stranger.wheels / f"{name}-py3-none-any.whl") as wheel:
            modules = [name for name in wheel.namelist() if name.endswith(".py")]
            assert modules
            assert [name for name in modules if (site / name).read_bytes() != wheel.read(name)] == []


def test_it_is_listed_with_all_that_it_brings(stranger):
    listed = json.loads(stranger.run("kzoo", "list", "--json").stdout)
    assert [row["name"] for row in listed["methods"]] == ["ressl"]
    assert [row["name"] for row in listed["backbones"]] == ["burrow"]
    assert [row["name"] for row in listed["datasets"]] == ["pen_digits", "tfds:<builder>", "folder:<path>"]
    [plugin] = json.loads(stranger.run("kzoo", "list", "plugins", "--json").stdout)
    assert (plugin["distribution"], plugin["version"], plugin["status"]) == ("kzoo-ressl", "2.5.1", "ok")


def test_it_passes_the_suite(stranger):
    answer = stranger.run("kzoo", "check", "ressl", "burrow")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "method ressl" in answer.stdout
    assert "backbone burrow" in answer.stdout


def test_it_trains_on_two_devices_and_its_callback_hears_of_it(run, trained):
    record = json.loads((run / "kzoo.json").read_text())
    assert record["status"] == "finished"
    for words in ("2 x CPU (MirroredStrategy)", "64 examples, 32 on each of 2 devices", "kNN, k=20"):
        assert words in trained
    assert json.loads((run / "diary.json").read_text())["epochs"] == [0, 1]


def test_its_own_figures_stand_beside_the_shared_ones(run):
    pretext = json.loads((run / "evaluation.json").read_text())["pretext"]
    assert pretext["chance"]["loss"] == pytest.approx(math.log(512))
    assert pretext["held_out"]["loss"] < pretext["chance"]["loss"]
    assert 0.5 < pretext["own"]["nearest_neighbour"] <= 1
    assert (run / "figures/answers.png").exists()


def test_it_is_evaluated_again(run, stranger):
    answer = stranger.run("kzoo", "evaluate", str(run), "--json")
    assert answer.returncode == 0, answer.stderr
    first = json.loads((run / "evaluation.json").read_text())
    assert json.loads(answer.stdout)["trained"]["knn"] == first["trained"]["knn"]


def test_it_is_exported(run, stranger):
    answer = stranger.run("kzoo", "export", str(run), "--to", "exports")
    assert answer.returncode == 0, answer.stderr
    assert [path.parent.name for path in stranger.folder.glob("exports/**/saved_model.pb")] == ["1"]


def test_it_is_gone_once_uninstalled(run, stranger):
    stranger.pip("uninstall", "--yes", "kzoo-ressl")
    try:
        assert json.loads(stranger.run("kzoo", "list", "plugins", "--json").stdout) == []
        assert stranger.run("kzoo", "list", "methods").stdout == "no methods are installed\n"
        answer = stranger.run("kzoo", "train", str(SOURCE / "recipes/ressl.yaml"))
        assert answer.returncode == 3
        assert "method.name: unknown method 'ressl'" in answer.stderr
    finally:
        stranger.install("kzoo-ressl")


# ---- what it imports ------------------------------------------------------------------------------------------------


def imported(source: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of everything a file takes from kzoo; name "" where it imports a module as such."""
    tree = ast.parse(source.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "kzoo")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "kzoo":
            yield from ((node.module, alias.name) for alias in node.names)
    modules = {alias.asname or alias.name: f"{module}.{alias.name}" for module, alias in _aliases(tree)}
    for node in ast.walk(tree):  # kzoo.Method, augment.view
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "kzoo":
                yield "kzoo", node.attr
            elif node.value.id in modules:
                yield modules[node.value.id], node.attr


def _aliases(tree: ast.Module) -> Iterator[tuple[str, ast.alias]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "kzoo":
            yield from (("kzoo", alias) for alias in node.names)


def private(source: Path) -> list[str]:
    """What a file takes from kzoo that docs/api.md does not name."""
    spec = importlib.util.spec_from_file_location("generate", Path(__file__).parents[1] / "docs/generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    modules = generate.reference.PUBLIC
    names = {(module, name) for module in modules for name in ("", *generate.reference.public_names(module))}
    names |= {tuple(module.rsplit(".", 1)) for module in modules if "." in module}
    return [".".join(taken).rstrip(".") for taken in imported(source) if taken not in names]


def test_it_imports_public_names_only():
    sources = list(SOURCE.rglob("*.py"))
    assert len(sources) == 8
    assert {str(source): private(source) for source in sources} == {str(source): [] for source in sources}


def test_a_private_name_would_be_noticed(tmp_path):
    source = tmp_path / "bad.py"
    source.write_text(
        "import kzoo\nimport kzoo.train.loop\nfrom kzoo import augment, recipe\nfrom kzoo.layers import gelu, _gelu\n"
        "kzoo.Method, kzoo.secret, augment.view, augment._where_chosen, recipe.load\n"
    )
    assert sorted(private(source)) == [
        "kzoo.augment._where_chosen",
        "kzoo.layers._gelu",
        "kzoo.recipe",
        "kzoo.recipe.load",
        "kzoo.secret",
        "kzoo.train.loop",
    ]
