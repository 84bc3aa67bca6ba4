"""Presets: records are checked, weights are the ones named, and a packed run works where it is installed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import kzoo
from kzoo.cli.app import main
from kzoo.cli.preset import print_preset
from kzoo.errors import PackError, PluginError, PresetError, RecipeError
from kzoo.plugins import describe, registry
from kzoo.plugins import load as plugins
from kzoo.presets import packed
from kzoo.recipe.load import load
from kzoo.runs.presets import awaits_download, find_weights
from kzoo.runs.pretrained import Initial
from kzoo.testing import PresetSubject, run_checks
from kzoo.train.loop import train
from kzoo.use import card, pack
from kzoo.use.pack import pack_run

RECIPE = (Path(__file__).parent / "tiny.yaml").read_text()
NAME = "convnet4.rotation_digits"
SHA = "0" * 64


def spec(name="net.tag", **more):
    about = {"backbone": "convnet", "weights": "kzoo:py.typed", "sha256": SHA, "input_shape": (28, 28, 1)}
    return kzoo.PresetSpec(name=name, data="digits", summary="What it is", **about | more)


# ---- records --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"name": "net"}, "name is 'net'; expected lower_snake_case, or family/name, then '.' and a tag"),
        ({"sha256": "abc"}, "sha256 of 'net.tag' is 'abc'; expected 64 hex digits"),
        ({"weights": "here.keras"}, "weights of 'net.tag' is 'here.keras'; expected 'package:path'"),
        ({"weights": "kzoo:no.keras"}, "preset 'net.tag' points to 'kzoo:no.keras', and there is no such file"),
        ({"answers": "no_such:a.npz"}, "preset 'net.tag' points to 'no_such:a.npz', and there is no such file"),
    ],
)
def test_a_wrong_record_is_reported_and_the_rest_works(wrong, problem, fake, stub, install):
    found = install(fake("worse", presets=[spec(**wrong)]), stub)
    assert problem in {record.name: record.problem for record in found.records}["worse"]
    assert registry.find_backbone("convnet")


def test_a_name_that_two_plugins_bring_is_nobodys(fake, install):
    install(fake("one", presets=[spec()]), fake("two", presets=[spec(), spec("net.other")]))
    assert [one.name for one in registry.presets()] == ["net.other"]
    with pytest.raises(PluginError, match=r"preset 'net\.tag' is brought by plugin 'one'.* and plugin 'two'"):
        registry.find_preset("net.tag")


def test_what_is_a_preset_and_what_a_folder(fake, install, tmp_path, monkeypatch):
    install(fake("one", presets=[spec()]))
    monkeypatch.chdir(tmp_path)
    Path("net.tag").mkdir()
    Path("my.run").mkdir()
    names = ("net.tag", "./net.tag", "my.run", "net.gone", "runs/net.tag", "quickstart")
    assert [registry.names_preset(name) for name in names] == [True, False, False, True, False, False]


def test_packed_names_the_file_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "half_packed" / "presets" / "a.b"
    folder.mkdir(parents=True)
    (folder / "preset.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a\.b/preset\.json: is not the record of a preset: KeyError"):
        list(packed("half_packed"))


# ---- recipes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "problem"),
    [
        ("convnet.tagg", PluginError, "init_from: unknown preset 'convnet.tagg'; plugin 'worse' "),
        ("convnet.tag", None, ""),
        ("convnet.wide", RecipeError, "'convnet.wide' has backbone.options.width=128; here it is 64"),
        ("transformer.tag", RecipeError, "'transformer.tag' is a 'transformer'; backbone.name is 'convnet'"),
    ],
)
def test_a_recipe_with_a_preset_that_is_not_there_or_does_not_fit(change, kind, problem, fake, stub, install, tmp_path):
    def broken():
        raise ImportError("no torch")

    brought = [
        spec("convnet.tag", backbone_options={"width": 64}),
        spec("convnet.wide", backbone_options={"width": 128}),
        spec("transformer.tag", backbone="transformer"),
    ]
    install(fake("worse", load=broken), fake("good", presets=brought), stub)
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: a\ndata: {name: digits}\nbackbone: {name: convnet}\nmethod: {name: contrast}\n"
        + f"init_from: {change}\n"
    )
    if kind is None:
        assert load(path).init_from == change
        return
    with pytest.raises(kind) as refused:
        load(path)
    assert problem in str(refused.value)


def test_a_run_needs_no_more_the_preset_that_it_began_with(stub, install, tmp_path):
    install(stub)
    path = tmp_path / "recipe.yaml"
    text = "name: a\ndata: {name: digits}\nbackbone: {name: convnet}\nmethod: {name: contrast}\n"
    for name in ("convnet.gone", "library/convnet.gone"):
        path.write_text(f"{text}init_from: {name}\n")
        assert load(path, begun=True).init_from == name
    path.write_text(f"{text}init_from: convnet.gone\n")
    with pytest.raises(PluginError, match=r"init_from: unknown preset 'convnet\.gone'"):
        load(path)


# ---- weights --------------------------------------------------------------------------------------------------------


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A preset whose weights are behind a URL, and the file there."""
    monkeypatch.setenv("KZOO_HOME", str(tmp_path / "home"))
    source = tmp_path / "far away.keras"
    source.write_bytes(b"weights" * 100_000)
    sha = hashlib.sha256(source.read_bytes()).hexdigest()
    return spec(weights=source.as_uri(), sha256=sha), source


def test_a_url_is_downloaded_once_and_verified_each_time(remote):
    preset, source = remote
    assert awaits_download(preset)
    path = find_weights(preset)
    assert path.read_bytes() == source.read_bytes()
    source.unlink()
    assert not awaits_download(preset)
    assert find_weights(preset) == path
    path.write_bytes(b"other")
    with pytest.raises(PresetError, match=r"is not the file that preset 'net\.tag' names.*delete"):
        find_weights(preset)


def test_a_download_of_another_file_leaves_nothing(remote, tmp_path):
    preset, source = remote
    source.write_bytes(b"other")
    with pytest.raises(PresetError, match=r"is not the file that preset 'net\.tag' names, by its SHA-256"):
        find_weights(preset)
    assert list((tmp_path / "home" / "presets").iterdir()) == []
    source.unlink()
    with pytest.raises(PresetError, match=r"cannot be downloaded: .*; put the file at "):
        find_weights(preset)


# ---- a run becomes a package ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    (place / "r.yaml").write_text(RECIPE)
    train(load(place / "r.yaml"), place / "run", False, Console(quiet=True))
    return place / "run"


@pytest.fixture(scope="module")
def distribution(run, tmp_path_factory):
    return pack_run(run, tmp_path_factory.mktemp("packs"), licence="CC0-1.0").distribution


@pytest.fixture
def installed(distribution, fake, monkeypatch):
    """The preset beside all plugins of the environment."""
    monkeypatch.syspath_prepend(distribution / "src")
    real = metadata.entry_points
    entry = fake("packed", presets=lambda: packed("kzoo_convnet4_rotation_digits"))
    monkeypatch.setattr(
        metadata, "entry_points", lambda **how: [*real(**how), *([entry] if how == {"group": "kzoo"} else [])]
    )
    plugins.load_plugins.cache_clear()
    yield registry.find_preset(NAME)
    plugins.load_plugins.cache_clear()


def test_the_package_holds_all_that_it_should_and_nothing_of_this_machine(distribution, run):
    assert distribution.name == "kzoo-convnet4-rotation-digits"
    package = "src/kzoo_convnet4_rotation_digits"
    inside = {str(path.relative_to(distribution)) for path in distribution.rglob("*") if path.is_file()}
    files = ("README.md", "answers.npz", "backbone.keras", "preset.json", "recipe.yaml")
    assert inside == {
        ".github/workflows/test.yml",
        ".gitignore",
        "README.md",
        "pyproject.toml",
        f"{package}/__init__.py",
        f"{package}/plugin.py",
        "tests/test_presets.py",
        *(f"{package}/presets/{NAME}/{name}" for name in files),
    }
    texts = "".join((distribution / name).read_text() for name in inside if not name.endswith((".npz", ".keras")))
    assert str(run.parent) not in texts
    assert "newpreset" not in texts
    assert '"kzoo-backbones>=' in (distribution / "pyproject.toml").read_text()
    report = json.loads((run / "evaluation.json").read_text())["verdict"]["knn"]
    assert f"| {report['trained']:.1%} | {report['untrained']:.1%} |" in (distribution / "README.md").read_text()


def test_it_is_shown_with_its_figures_in_80_columns(installed, run):
    out = StringIO()
    console = Console(file=out, width=80)
    print_preset(console, installed)
    describe.print_list(console, "presets", describe.listed("presets", NAME))
    told = out.getvalue()
    found = json.loads((run / "evaluation.json").read_text())["verdict"]["knn"]
    for words in ("CC0-1.0", "BSD-3-Clause", f"{found['trained']:.1%}", f"{found['untrained']:.1%}", "kNN, k=3"):
        assert words in told
    assert max(map(len, told.splitlines())) <= 80


def test_it_gives_what_the_run_gives_and_begins_a_training(installed, run):
    images = np.random.default_rng(1).random((2, 28, 28, 1)).astype("float32")
    right = kzoo.load_backbone(run)(images)["embedding"].numpy()
    np.testing.assert_allclose(kzoo.load_backbone(NAME)(images)["embedding"].numpy(), right, atol=1e-6)
    initial, backbone = Initial(NAME), kzoo.build_backbone("convnet4", (28, 28, 1), width=8)
    initial.begin(backbone)
    np.testing.assert_allclose(backbone(images)["embedding"].numpy(), right, atol=1e-6)
    assert initial.made_from == {"preset": NAME, "sha256": installed.sha256}


def test_the_suite_notices_another_model_and_another_embedding(installed, monkeypatch):
    subject = PresetSubject(installed)
    assert [outcome.message for outcome in run_checks(subject)] == [""] * 4
    first = subject.model.weights[0]
    first.assign(first.numpy() * 1.01)
    [failed] = [outcome for outcome in run_checks(subject) if not outcome.ok]
    assert failed.check == "answers"
    assert "embeds recorded inputs otherwise than when it was packed" in failed.message


def test_a_package_gains_another_preset(distribution, run, tmp_path):
    both = Path(shutil.copytree(distribution, tmp_path / "both"))
    assert not pack_run(run, both, "convnet4.second").new
    with pytest.raises(PackError, match=r"convnet4\.second: exists already"):
        pack_run(run, both, "convnet4.second")
    folders = (both / "src" / "kzoo_convnet4_rotation_digits" / "presets").iterdir()
    assert sorted(path.name for path in folders) == [NAME, "convnet4.second"]
    project = both / "pyproject.toml"
    project.write_text(project.read_text().replace("kzoo-backbones>=", "kzoo-others>="))
    with pytest.raises(PackError, match=r'pyproject\.toml: dependencies lack "kzoo-backbones>=.*"; add it|"'):
        pack_run(run, both, "convnet4.third")


def test_what_cannot_be_packed_is_refused(distribution, run, tmp_path, monkeypatch):
    with pytest.raises(
        PackError, match=r"'My Net' cannot name a preset; write backbone\.tag, for example convnet4\.rot"
    ):
        pack_run(run, tmp_path, "My Net")
    with pytest.raises(PackError, match="kzoo-convnet4-rotation-digits: exists already"):
        pack_run(run, distribution.parent)
    monkeypatch.setattr(pack, "read_json", lambda path: {})
    with pytest.raises(PackError, match=r"evaluation\.json: is not of the weights that the run has; call `kzoo eval"):
        pack_run(run, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_a_folder_is_all_that_is_told_of_where_data_lay(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE.replace("digits, options: {limit: 64}", f"'folder:{tmp_path}/pets'"))
    recipe = load(tmp_path / "r.yaml", [f"init_from={tmp_path}/first"])
    assert str(tmp_path) in recipe.data.name
    shared = pack.shareable(recipe)
    assert (shared.data.name, shared.init_from) == ("folder:pets", "first")
    assert pack.default_name(shared) == "convnet4.rotation_pets"


def test_the_card_embeds_data_of_the_size_that_it_was_trained_on(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE.replace("digits, options: {limit: 64}", "photos, options: {size: 32}"))
    recipe = load(tmp_path / "r.yaml")
    assert pack._shape_of_data(registry.find_dataset("photos"), recipe) == {"size": 32}
    facts = {"data": "photos", "modality": "image", "data_options": {"size": 32}}
    assert card._example(facts) == "photos --set size=32"
    assert card._example(facts | {"data": "folder:pets"}) == "folder:photos"


def test_recorded_inputs_of_text_are_tokens_and_some_are_padded():
    model = SimpleNamespace(inputs=[SimpleNamespace(dtype="int32")])
    tokens = pack.recorded_inputs(model, [8, 50])
    assert (tokens.shape, tokens.dtype, tokens.max() < 50) == ((4, 8), "int32", True)
    assert (tokens == 0).sum() == 8


ELSEWHERE = """
import sys
from kzoo.cli.app import main

def call(*arguments):
    try:
        main(list(arguments))
    except SystemExit as left:
        print("left with", left.code)

call("check", sys.argv[1])
call("embed", sys.argv[1], "digits", "--split", "test", "--set", "limit=8", "--out", sys.argv[2])
"""


def test_installed_elsewhere_it_is_listed_shown_checked_and_embeds_and_a_changed_byte_is_refused(
    distribution, tmp_path
):
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(distribution)], check=True)
    path = os.pathsep.join([str(target), *filter(None, sys.path)])
    environ = {**os.environ, "PYTHONPATH": path, "COLUMNS": "100"}

    def go(*call):
        return subprocess.run([sys.executable, *call], env=environ, cwd=tmp_path, capture_output=True, text=True)

    listed = json.loads(go("-m", "kzoo", "list", "presets", "--json").stdout)
    assert NAME in [row["name"] for row in listed]
    assert "kzoo-convnet4-rotation-digits 0.1.0" in go("-m", "kzoo", "show", NAME).stdout
    answer = go("-c", ELSEWHERE, NAME, "e.npz")
    assert "4 checks, 0 failed" in answer.stdout, answer.stdout + answer.stderr
    assert answer.stdout.count("left with 0") == 2, answer.stdout + answer.stderr
    assert json.loads((tmp_path / "e.npz.json").read_text())["backbone"] == NAME

    weights = target / "kzoo_convnet4_rotation_digits" / "presets" / NAME / "backbone.keras"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    refused = go("-c", f"import kzoo; kzoo.load_backbone({NAME!r})")
    assert "kzoo.errors.PresetError" in refused.stderr
    assert f"is not the file that preset '{NAME}' names" in refused.stderr
    (tmp_path / "r.yaml").write_text(RECIPE)
    dry = go("-m", "kzoo", "train", "r.yaml", "--dry-run", "--set", f"init_from={NAME}")
    assert dry.returncode == 1
    assert "pip install --force-reinstall kzoo-convnet4-rotation-digits" in dry.stderr


def test_the_command_says_what_to_do_next(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["pack", str(run), "--into", str(tmp_path), "--name", "convnet4.mine"])
    told = capsys.readouterr().out
    assert left.value.code == 0
    for words in (
        "holds the preset 'convnet4.mine', ",
        "pip install --editable ",
        "kzoo check convnet4.mine",
        "licence",
    ):
        assert words in told
