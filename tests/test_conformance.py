"""The conformance suite over every registered method and backbone: a class for each, as an author of one writes it.

Every method trains on two replicas as on one. On four, which costs as much again, those do that need the other replicas
in ways of their own; all of them do in benchmarks/replicas.py.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kzoo import MethodSpec, Options
from kzoo.plugins import registry
from kzoo.plugins.load import load_plugins
from kzoo.testing import BackboneSuite, MethodSuite

BUNDLED = Path(__file__).parents[1] / "plugins"

# views gathered, a queue and shuffled statistics, a bank
ON_FOUR = ("simclr", "moco_v2", "inst_disc")


def _class_name(name: str) -> str:
    return "Test" + "".join(part.capitalize() for part in name.replace("/", "_").split("_"))


for _spec in registry.methods():
    _name = _class_name(_spec.name)
    _counts = (2, 4) if _spec.name in ON_FOUR else (2,)
    globals()[_name] = type(_name, (MethodSuite,), {"method": _spec.name, "replicas": _counts, "__module__": __name__})
for _spec in registry.backbones():
    _name = _class_name(_spec.name)
    globals()[_name] = type(_name, (BackboneSuite,), {"backbone": _spec.name, "__module__": __name__})


def left_out(folder: Path) -> Iterator[str]:
    """What the loops above pass over of the distributions in a folder: a line for each plugin and each name."""
    records = {(record.distribution, record.name): record for record in load_plugins().records}
    for path in sorted(folder.glob("*/pyproject.toml")):
        project = tomllib.loads(path.read_text())["project"]
        for name in project["entry-points"]["kzoo"]:
            record = records.get((project["name"], name))
            if record is None:
                yield f"{name}: not installed"
            elif not record.ok:
                yield f"{name}: {record.problem}"
    for kind in ("method", "backbone"):
        yield from (registry.ambiguous(kind, name, plugins) for name, plugins in registry.conflicts(kind).items())


def test_no_bundled_plugin_is_passed_over():
    """A broken one has no class here, hence no test of its own that could fail."""
    assert len(list(BUNDLED.glob("*/pyproject.toml"))) == len([path for path in BUNDLED.iterdir() if path.is_dir()])
    assert list(left_out(BUNDLED)) == []


def _fails() -> None:
    raise ImportError("no torch")


def _two(name: str) -> list[MethodSpec]:
    spec = {"target": "nowhere:M", "options": Options, "family": "f", "summary": "s", "paper": "p"}
    return [MethodSpec(name=name, **spec), MethodSpec(name="same", **spec)]


def test_one_that_is_would_be_noticed(fake, install, tmp_path, monkeypatch: pytest.MonkeyPatch):
    for name in ("sound", "twin", "broken", "switched_off", "absent"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").write_text(
            f'[project]\nname = "kzoo-{name}"\n[project.entry-points.kzoo]\n{name} = "x"\n'
        )
    entries = [fake("sound", methods=_two("a")), fake("twin", methods=_two("b"))]
    monkeypatch.setenv("KZOO_DISABLE_PLUGINS", "switched_off")
    install(*entries, fake("broken", load=_fails), fake("switched_off", methods=[]))
    absent, broken, off, same = left_out(tmp_path)
    assert absent == "absent: not installed"
    assert broken == "broken: ImportError: no torch"
    assert off == "switched_off: switched off by KZOO_DISABLE_PLUGINS"
    assert same.startswith("method 'same' is brought by plugin 'sound' (kzoo-sound 1.2) and plugin 'twin'")
