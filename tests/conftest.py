"""Plugins that are not installed: `install(fake("name", methods=[...]))` puts them in place of the environment's."""

import gc
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field

import kzoo
from kzoo import BackboneSpec, DatasetSpec, ImageOptions, MethodSpec, Options, hookspecs
from kzoo.distribute import devices
from kzoo.options import Width
from kzoo.plugins import load as plugins
from kzoo.plugins import locate

devices.split_cpu(2)  # for tests of replicas; TensorFlow lets it be done before anything has used it
gc.collect()
gc.freeze()  # what was imported stays: collecting garbage need not look at it every time

collect_ignore = ["thirdparty"]  # a distribution of its own, with tests of its own


class FakeEntry:
    """An `importlib.metadata.EntryPoint` whose module is made on the spot.

    load: answers the plugin, or raises. requires: the distribution's Requires-Dist.
    """

    def __init__(self, name: str, load: Callable[[], Any], distribution: str, requires: tuple[str, ...]):
        self.name, self.load, self.value = name, load, f"kzoo_{name}.plugin"
        self.dist = SimpleNamespace(name=distribution, version="1.2", requires=list(requires))


def _hook(answer: Any) -> Callable[[], Any]:
    @hookspecs.hookimpl
    def hook() -> Any:
        return answer() if callable(answer) else iter(answer)

    return hook


@pytest.fixture
def fake() -> Callable[..., FakeEntry]:
    """fake(name, methods=..., backbones=..., datasets=...): each a list of records or a function that answers one."""

    def make(name: str, *, load: Any = None, distribution: str = "", requires: tuple[str, ...] = (), **hooks: Any):
        module = SimpleNamespace(**{f"kzoo_{kind}": _hook(answer) for kind, answer in hooks.items()})
        return FakeEntry(name, load or (lambda: module), distribution or f"kzoo-{name}", requires)

    return make


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., plugins.Plugins]]:
    """install(*entries): from now on these are all the plugins there are; answers what loading them gives.

    Their records point to code that does not exist.
    """
    monkeypatch.setattr(locate, "missing", lambda target: "")
    monkeypatch.delenv("KZOO_PLUGINS", raising=False)
    monkeypatch.delenv("KZOO_DISABLE_PLUGINS", raising=False)
    real = metadata.entry_points

    def put(*entries: FakeEntry) -> plugins.Plugins:
        monkeypatch.setattr(
            metadata, "entry_points", lambda **how: list(entries) if how == {"group": "kzoo"} else real(**how)
        )
        plugins.load_plugins.cache_clear()
        return plugins.load_plugins()

    yield put
    plugins.load_plugins.cache_clear()


class ContrastOptions(ImageOptions):
    temperature: float = Field(0.1, gt=0, description="softmax temperature")
    projector: tuple[Width, ...] = Field((64, 32), min_length=1, description="widths of the layers")


class TileOptions(Options):
    grid: int = Field(3, ge=2, le=5, description="tiles along a side")


class NetOptions(Options):
    width: int = Field(64, ge=1, description="channels of the first layer")


class PhotosOptions(Options):
    root: str = Field(description="folder with the photos")
    shuffle: bool = Field(True, description="shuffle on reading")


def _method(name: str, options: type[Options], **more: Any) -> MethodSpec:
    about = {"family": "stub", "summary": f"What {name} does", "paper": "Someone 2020"}
    return MethodSpec(name=name, target=f"not_imported:{name}", options=options, **about, **more)


def _backbone(name: str, **more: Any) -> BackboneSpec:
    summary = f"What {name} is"
    return BackboneSpec(
        name=name, target=f"not_imported:{name}", options=NetOptions, family="s", summary=summary, **more
    )


def _dataset(name: str, options: type[Options] = Options, **more: Any) -> DatasetSpec:
    return DatasetSpec(name=name, target=f"not_imported:{name}", options=options, summary=f"What {name} holds", **more)


@pytest.fixture
def stub(fake) -> FakeEntry:
    """A small zoo whose code does not exist: whatever works with it imports none."""
    return fake(
        "stub",
        methods=[
            _method("contrast", ContrastOptions, least_examples=2),
            _method("tiles", TileOptions, requires=("map",), channels=(3,), xla=False),
            _method("masked_words", Options, modality="text"),
        ],
        backbones=[
            _backbone("convnet", offers=("embedding", "map", "map_1")),
            _backbone("transformer", offers=("embedding", "tokens"), min_size=32),
            _backbone("word_encoder", offers=("embedding", "tokens"), modality="text"),
        ],
        datasets=[
            _dataset("digits", image_shape=(28, 28, 1), classes=10),
            _dataset("photos", PhotosOptions, image_shape=(64, 48, 3), splits=("train", "validation")),
            _dataset("mails", modality="text"),
        ],
    )


@pytest.fixture
def zoo(stub, install) -> plugins.Plugins:
    """The stub and nothing else is installed."""
    return install(stub)


@pytest.fixture
def distribution(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """distribution(name, source): a real distribution with the plugin `name`, found by a process with this environment.

    requires: its Requires-Dist. entry_points: of its entry_points.txt, where not the usual. No other plugin than those
    written so is loaded there.
    """
    names = []

    def write(name: str, source: str, *, requires: str = "kzoo>=0.1", entry_points: str = "") -> dict[str, str]:
        names.append(f"kzoo-{name}")
        (tmp_path / f"kzoo_{name}.py").write_text(source)
        info = tmp_path / f"kzoo_{name}-3.4.dist-info"
        info.mkdir()
        metadata_lines = (
            "Metadata-Version: 2.1",
            f"Name: kzoo-{name}",
            "Version: 3.4",
            f"Requires-Dist: {requires}",
            "",
        )
        (info / "METADATA").write_text("\n".join(metadata_lines))
        (info / "entry_points.txt").write_text(entry_points or f"[kzoo]\n{name} = kzoo_{name}\n")
        path = os.pathsep.join([str(tmp_path), str(Path(kzoo.__file__).parents[1])])
        return {**os.environ, "PYTHONPATH": path, "KZOO_PLUGINS": ",".join(names)}

    return write


class Environment:
    """A virtual environment of its own. It sees the libraries of the one that runs the tests, but neither kzoo nor any
    plugin: those it has are what was installed into it, from wheels.
    """

    def __init__(self, folder: Path):
        self.folder, self.wheels = folder, folder / "wheels"
        venv.create(folder / "venv", symlinks=True)
        libraries = folder / "libraries"
        libraries.mkdir()
        for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(place).iterdir():
                if not (entry.name.lower().startswith("kzoo") or entry.suffix == ".pth"):
                    (libraries / entry.name).symlink_to(entry)
        own = sysconfig.get_path("purelib", "venv", {"base": str(folder / "venv")})
        Path(own, "libraries.pth").write_text(str(libraries))
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("KZOO_", "PYTHON"))},
            "PATH": os.pathsep.join([str(folder / "venv/bin"), os.environ["PATH"]]),
            "COLUMNS": "120",
        }

    def run(self, *call: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command that is installed here, in `cwd` or the environment's own folder."""
        path = self.environ["PATH"]
        program = shutil.which(call[0], path=path) or call[0]
        return subprocess.run(
            [program, *call[1:]], env=self.environ, cwd=cwd or self.folder, capture_output=True, text=True
        )

    def pip(self, *arguments: str) -> None:
        """Run pip on this environment, without an index: what is wanted is installed, or among the wheels."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.folder / "venv/bin/python"), "--quiet"]
        subprocess.run([*pip, *arguments], check=True, cwd=self.folder)

    def install(self, *requirements: str) -> None:
        """Install from the wheels, with what they require."""
        self.pip("install", "--no-index", "--find-links", str(self.wheels), *requirements)

    def build(self, *sources: Path) -> None:
        """Build distributions from their folders; their wheels join the others."""
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        subprocess.run([*pip, "--wheel-dir", str(self.wheels), *map(str, sources)], check=True)


@pytest.fixture(scope="module")
def fresh_environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A new environment, and kzoo's own wheel to install there, freshly built."""
    environment = Environment(tmp_path_factory.mktemp("environment"))
    environment.build(Path(__file__).parents[1])
    return environment
