"""The guides: every Python snippet runs, every command exists."""

import importlib
import importlib.util
import json
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import typer
from rich.console import Console

import kzoo
from kzoo.cli import app as cli
from kzoo.plugins import registry
from kzoo.plugins.load import load_plugins
from kzoo.random import example_keys
from kzoo.recipe.load import load
from kzoo.train.loop import train

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))

from generator import reference  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Fence:
    """A block of code on a page. title: the file that it is the text of, or ""."""

    where: str
    language: str
    title: str
    code: str


def fences(page: Path) -> list[Fence]:
    text = page.read_text("utf-8")
    found = re.finditer(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    lines = ((text[: match.start()].count("\n") + 1, match.groups()) for match in found)
    return [Fence(f"{page.name}:{line}", language, title or "", code) for line, (language, title, code) in lines]


# ---- public names (the other pages made from the code: test_site.py) ------------------------------


def test_the_public_names_are_there_and_those_of_kzoo_are_all_of_them():
    assert list(reference.public_names("kzoo")) == kzoo.__all__
    for module in reference.PUBLIC:
        loaded = importlib.import_module(module)
        names = reference.public_names(module)
        assert [name for name in names if not hasattr(loaded, name)] == []
        assert names
    assert "_gelu" not in reference.public_names("kzoo.layers")


# ---- snippets -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory) -> Path:
    """The quickstart's run, of a few steps."""
    folder = tmp_path_factory.mktemp("runs") / "quickstart"
    small = ["data.options.limit=64", "train.epochs=1", "train.batch_size=32", "evaluate.linear=null"]
    small += ["evaluate.data={name: digits, split: test, options: {limit: 64}}", "export.formats=[]"]
    recipe = load(ROOT / "recipes" / "quickstart.yaml", small)
    train(recipe, folder, False, Console(quiet=True))
    return folder


@pytest.fixture
def workbench(tmp_path, monkeypatch) -> Iterator[Callable[[Fence], None]]:
    """Runs a fence after the other: a titled one becomes a file, another of Python is run, with two steps per fit."""
    fit = kzoo.Method.fit
    monkeypatch.setattr(
        kzoo.Method, "fit", lambda self, *args, **more: fit(self, *args, **{**more, "steps_per_epoch": 2, "verbose": 0})
    )
    monkeypatch.chdir(tmp_path)

    def write(fence: Fence) -> None:
        path = tmp_path / fence.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fence.code)
        if path.name == "pyproject.toml":
            pretend_to_install(path.parent, tomllib.loads(fence.code)["project"])
        forget()

    def pretend_to_install(folder: Path, project: dict[str, Any]) -> None:
        info = folder / "src" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        points = "\n".join(f"{name} = {value}" for name, value in project["entry-points"]["kzoo"].items())
        (info / "entry_points.txt").write_text(f"[kzoo]\n{points}\n")
        lines = [f"Name: {project['name']}", f"Version: {project['version']}"]
        (info / "METADATA").write_text(
            "\n".join(
                ["Metadata-Version: 2.1", *lines, *(f"Requires-Dist: {need}" for need in project["dependencies"])]
            )
        )
        monkeypatch.syspath_prepend(str(folder / "src"))

    def forget() -> None:
        importlib.invalidate_caches()
        load_plugins.cache_clear()
        for name in [name for name in sys.modules if name.startswith("kzoo_echo")]:
            del sys.modules[name]

    def run(fence: Fence) -> None:
        if fence.title:
            write(fence)
        elif fence.language == "python":
            exec(compile(fence.code, fence.where, "exec"), {"__name__": "__main__"})

    yield run
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "first-plugin.md"], ids=lambda page: page.name)
def test_every_snippet_runs(page, workbench, request, tmp_path):
    if "runs/quickstart" in "".join(fence.code for fence in fences(page) if fence.language == "python"):
        shutil.copytree(request.getfixturevalue("quickstart"), tmp_path / "runs" / "quickstart")
    for fence in fences(page):
        workbench(fence)


def test_the_guide_works_at_every_step_and_brings_what_it_says(workbench, tmp_path):
    steps = 0
    for fence in fences(ROOT / "docs/first-plugin.md"):
        workbench(fence)
        if fence.title.endswith("/echo.py"):
            steps += 1
            if steps > 1:  # the page itself trains the first
                method, batch = trained_echo()
                assert type(method).__module__ == "kzoo_echo.echo"
    assert steps == 3
    pictures = method.visualise({}, batch)
    assert {name: picture.shape for name, picture in pictures.items()} == dict.fromkeys(pictures, (16, 8, 8, 1))
    splits = [kzoo.open_dataset("small_digits", split=split) for split in ("train", "test")]
    assert (
        0.5 < method.extra_metrics(*splits)["nearest_neighbour"] <= 1
    )  # even untrained convolutions tell digits apart
    assert method.chance()["loss"] == pytest.approx(np.log(65))
    checked = load(tmp_path / "kzoo-echo/recipes/echo.yaml")
    [callbacks, broken] = load_plugins().callbacks(checked, tmp_path)
    assert [type(callback).__name__ for callback in callbacks] == ["TerminateOnNaN"]
    assert broken == []
    assert (tmp_path / "kzoo-echo/tests/test_echo.py").exists()


def trained_echo() -> tuple[kzoo.Method, dict[str, Any]]:
    """The guide's method as it is now after a step, on the guide's own backbone once that is there; and a batch."""
    own = any(spec.name == "cave" for spec in registry.backbones())
    backbone = kzoo.build_backbone("cave" if own else "small_resnet", input_shape=(8, 8, 1))
    method = kzoo.build_method("echo", backbone=backbone, **registry.find_method("echo").check_options)
    method.compile("sgd")
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), dtype="uint8")
    raw = {"image": tf.constant(images), "id": tf.range(16, dtype="int64")}
    batch = method.transform(raw, example_keys(0, 0, raw["id"]))
    before = [np.array(weight) for weight in method.trainable_variables]
    assert np.isfinite(method.train_step(batch)["loss"])
    moved = [np.any(old != np.array(new)) for old, new in zip(before, method.trainable_variables, strict=True)]
    assert all(moved)
    return method, batch


def calls(page: Path) -> list[tuple[str, str]]:
    """(where, words after kzoo) of every call of the command line in a page's blocks of bash."""
    lines = (
        (fence.where, line) for fence in fences(page) if fence.language == "bash" for line in fence.code.split("\n")
    )
    return [(where, call) for where, line in lines for call in re.findall(r"(?:^|&& )kzoo ([^#&]+)", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_exists(page):
    group = typer.main.get_command(cli.app)
    for where, call in calls(page):
        command, *arguments = shlex.split(call)
        if command.startswith("--"):  # of kzoo itself, as --install-completion
            asked, arguments = group, [command, *arguments]
        else:
            asked = group.commands[command]
        known = {option for parameter in asked.params for option in parameter.opts}
        given = {argument for argument in arguments if argument.startswith("--")}
        assert given <= known, f"{where}: kzoo {call}"


def test_commands_and_snippets_are_found_where_they_stand():
    """The tests of pages pass where none is found: every line of bash that begins with kzoo, every fence of Python."""
    for page in PAGES:
        text = page.read_text("utf-8")
        bash = "".join(re.findall(r"^```bash\b.*?^```$", text, re.MULTILINE | re.DOTALL))
        begun = len(re.findall(r"^kzoo ", bash, re.MULTILINE))
        assert len(calls(page)) >= begun, page.name
        assert len([fence for fence in fences(page) if fence.language == "python"]) == text.count("\n```python")
    assert len(calls(ROOT / "README.md")) > 0
    assert any(fence.language == "python" for fence in fences(ROOT / "README.md"))


class Tracker:
    """What the logger on the page of plugins asks of MLflow: (run, step, figures) of each call."""

    def __init__(self):
        self.figures, self.params, self.runs = [], {}, 0

    def set_tracking_uri(self, uri):
        self.uri = uri

    def set_experiment(self, experiment):
        self.experiment = experiment

    @contextmanager
    def start_run(self, run_id, run_name):
        if run_id is None:
            self.runs += 1
            run_id = f"{run_name}-{self.runs}"
        self.run_id = run_id
        yield SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_params(self, params):
        self.params[self.run_id] = params

    def log_metrics(self, figures, step):
        self.figures.append((self.run_id, step, figures))


def test_the_logger_of_the_page_on_plugins_logs_and_goes_on_after_a_resume(tmp_path, monkeypatch, fake, install):
    for fence in fences(ROOT / "docs/plugins.md"):
        if fence.title:
            path = tmp_path / fence.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fence.code)
    monkeypatch.syspath_prepend(str(tmp_path / "kzoo-mlflow/src"))
    tracker = Tracker()
    monkeypatch.setitem(sys.modules, "mlflow", tracker)
    found = install(fake("mlflow", load=lambda: importlib.import_module("kzoo_mlflow.plugin")))
    method = SimpleNamespace(name="simclr", options={"temperature": 0.2})
    recipe = SimpleNamespace(name="quick", method=method, callbacks={"mlflow": {"experiment": "digits"}})
    [[logger], broken] = found.callbacks(recipe, tmp_path)
    assert broken == []
    logger.on_epoch_end(0, {"loss": np.float32(2.5)})
    [[resumed], _] = found.callbacks(recipe, tmp_path)
    resumed.set_state(json.loads(json.dumps(logger.get_state())))
    resumed.on_epoch_end(1, {"loss": 1.5})
    assert tracker.figures == [("quick-1", 0, {"loss": 2.5}), ("quick-1", 1, {"loss": 1.5})]
    assert tracker.params == {"quick-1": {"method": "simclr", "temperature": 0.2}}
    assert (tracker.uri, tracker.experiment) == ("mlruns", "digits")
    recipe.callbacks = {}
    assert found.callbacks(recipe, tmp_path) == ([], [])
