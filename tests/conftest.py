"""Plugins that are not installed: `install(fake("name", methods=[...]))` puts them in place of the environment's."""

import os
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field

import kzoo
from kzoo import BackboneSpec, DatasetSpec, ImageOptions, MethodSpec, Options, hookspecs, locate, plugins


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
    projector: tuple[int, ...] = Field((64, 32), description="widths of the layers")


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
            _method("contrast", ContrastOptions),
            _method("tiles", TileOptions, requires=("map",), channels=(3,)),
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
