"""`kzoo embed`: every example once, under its name, in three formats; what was done before a kill is not done again."""

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

import kzoo
from kzoo.cli.app import main
from kzoo.data import text_source
from kzoo.distribute import devices
from kzoo.errors import DataError, EmbeddingsError, RecipeError
from kzoo.evaluate.features import make_reader
from kzoo.folder import read_image
from kzoo.recipe.load import load
from kzoo.runs.kept import Kept
from kzoo.text import SPECIAL
from kzoo.train.loop import train
from kzoo.use import embed as embedding
from kzoo.use import table
from kzoo.use.embed import Wanted, embed_data

RECIPE = (Path(__file__).parent / "tiny.yaml").read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    (place / "r.yaml").write_text(RECIPE)
    train(load(place / "r.yaml"), place / "run", False, Console(quiet=True))
    return place / "run"


@pytest.fixture
def pictures(tmp_path):
    """Files of several sizes and kinds, grey and in colour, in two classes."""
    folder = tmp_path / "pics"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(5):
            rng = np.random.default_rng([number, len(label), ord(label[0])])
            pixels = rng.integers(0, 256, (30 + number, 40, 3), np.uint8)
            suffix = ("png", "jpg", "webp")[number % 3]
            Image.fromarray(pixels).convert("RGB" if number else "L").save(folder / label / f"{number} é.{suffix}")
    return folder


def test_a_folder_is_embedded_under_the_names_of_its_files(run, pictures, tmp_path):
    out = StringIO()
    found = embed_data(run, Wanted(f"folder:{pictures}", (), {}), tmp_path / "e.npz", Console(file=out, width=200))
    read = table.read(tmp_path / "e.npz")
    assert sorted(read.name) == sorted(path.relative_to(pictures).as_posix() for path in pictures.glob("*/*"))
    assert set(read.split) == {"train", "test"}  # none of the files is left out
    assert all(name.startswith(label) for name, label in zip(read.name, read.label, strict=True))
    np.testing.assert_array_equal(read.vectors, found.vectors)
    backbone = kzoo.load_backbone(run)
    for place in (0, 7):
        pixels = read_image(pictures / read.name[place], 28)
        colour = np.broadcast_to(pixels, (28, 28, 3)).astype("float32") / 255
        grey = colour @ np.array([0.2989, 0.5870, 0.1140], "float32")
        right = np.asarray(backbone(grey[None, ..., None], training=False)["embedding"])[0]
        np.testing.assert_allclose(read.vectors[place], right, atol=1e-4)
    facts = json.loads((tmp_path / "e.npz.json").read_text())
    assert facts["data"] == f"folder:{pictures}"
    assert facts["examples"] == 10
    assert facts["made_from"]["sha256"] == json.loads((run / "kzoo.json").read_text())["model"]["sha256"]
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
def test_every_format_reads_back_to_the_bit(tmp_path, suffix):
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    wrote = table.Embeddings(["a,b.png", 'c"d', "é\nf"], ["train", "", "test"], ["", "x", "y"], vectors, {"data": "d"})
    table.write(tmp_path / f"e.{suffix}", wrote)
    read = table.read(tmp_path / f"e.{suffix}")
    assert (read.name, read.split, read.label) == (wrote.name, wrote.split, wrote.label)
    np.testing.assert_array_equal(read.vectors, vectors)
    assert read.vectors.dtype == np.float32
    assert read.facts == {"data": "d", "examples": 3, "width": 4}


def test_a_killed_call_goes_on_where_it_was(run, tmp_path, monkeypatch):
    wanted = Wanted("digits", ("test",), {"limit": 700})
    whole = embed_data(run, wanted, tmp_path / "whole.npz", Console(quiet=True))
    monkeypatch.setattr(embedding, "_SHARD", 256)
    asked, embed_all = [], embedding.embed_all

    def dies(model, shard, *args, **more):
        asked.append(len(asked))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return embed_all(model, shard, *args, **more)

    monkeypatch.setattr(embedding, "embed_all", dies)
    with pytest.raises(KeyboardInterrupt):
        embed_data(run, wanted, tmp_path / "e.npz", Console(quiet=True))
    assert not (tmp_path / "e.npz").exists()
    parts = sorted((tmp_path / "e.npz.parts").glob("0-*.npz"))
    assert len(parts) == 2
    parts[1].write_bytes(parts[1].read_bytes()[:100])  # and the disk lost the end of one
    out = StringIO()
    resumed = embed_data(run, wanted, tmp_path / "e.npz", Console(file=out, width=200))
    assert len(asked) == 3 + 2
    assert "256 of 700 are done already" in out.getvalue()
    assert resumed.name == whole.name == [str(number) for number in range(700)]
    np.testing.assert_allclose(resumed.vectors, whole.vectors, atol=1e-6)


def test_what_another_call_left_is_not_taken(run, tmp_path):
    parts = tmp_path / "e.npz.parts"
    parts.mkdir()
    (parts / "parts.json").write_text('{"of": "something else"}')
    zeros = {"features": np.zeros((50, 8), "float32"), "labels": np.zeros(50), "ids": np.arange(50)}
    np.savez(parts / "0-000000000000.npz", **zeros)
    found = embed_data(run, Wanted("digits", ("test",), {"limit": 50}), tmp_path / "e.npz", Console(quiet=True))
    assert found.vectors.any(axis=1).all()


def test_data_of_another_kind_is_refused(run, tmp_path):
    (tmp_path / "a.txt").write_text("one two three " * 500)
    with pytest.raises(DataError, match=r"holds text; the backbone of .*run takes 'image'"):
        embed_data(run, Wanted(f"text:{tmp_path / 'a.txt'}", (), {}), tmp_path / "e.npz", Console(quiet=True))


def test_text_whose_words_are_numbered_otherwise_is_refused(tmp_path):
    words = (*SPECIAL, "one", "two")
    kept = Kept(tmp_path, tmp_path / "m", {}, {"shape": [4, len(words)], "vocabulary": list(words)})
    tokens = np.zeros((2, 4), "int32")
    embedding._check(text_source("mine", tokens, words), kept, "tokens")
    with pytest.raises(DataError, match="words are numbered otherwise"):
        embedding._check(text_source("mine", tokens, (*SPECIAL, "two", "one")), kept, "tokens")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits", "--out", "e.txt"], "the name must end in .npz, .csv, .parquet"),
        (["digitz", "--out", "e.npz"], "did you mean 'digits'"),
        (["digits", "--out", "e.npz", "--set", "limit"], "expected KEY=VALUE"),
        (["digits", "--out", "e.npz", "--set", "limt=3"], "limt"),
    ],
)
def test_a_wrong_call_is_told_before_tensorflow(tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.setattr("kzoo.cli.use.importing_tensorflow", lambda: pytest.fail("TensorFlow was imported"))
    with pytest.raises(SystemExit) as left:
        main(["embed", str(tmp_path), *arguments])
    assert left.value.code in (2, 3)
    assert said in capsys.readouterr().err


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install \"kzoo\[parquet\]\""):
        table.check_format(tmp_path / "e.parquet")


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no zip"])
def test_a_file_that_holds_no_embeddings_is_told(tmp_path, content):
    path = tmp_path / "e.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EmbeddingsError, match=r"e\.npz: (no such file|holds no embeddings)"):
        table.read(path)


def test_several_devices_read_a_batch_as_one_does(run):
    backbone = kzoo.load_backbone(run)
    images = np.random.default_rng(0).random((7, 28, 28, 1)).astype("float32")  # 7 do not divide over 2
    alone = make_reader(backbone, ("embedding",))(tf.constant(images))["embedding"]
    strategy = devices.make_strategy("mirrored", 2, 8)
    with strategy.scope():
        shared = kzoo.load_backbone(run)
    read = embedding.on_all(strategy, make_reader(shared, ("embedding",)))
    np.testing.assert_allclose(read(tf.constant(images))["embedding"], alone, atol=1e-5)


ONLY_TRAINING_NEEDS = ("matplotlib", "sklearn", "tensorboard", "threadpoolctl")
LOAD_AND_SERVE = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None  # an import of it raises
from pathlib import Path
from rich.console import Console
import kzoo
from kzoo.cli.app import main
from kzoo.runs.report import export_run
run, pictures, out = map(Path, sys.argv[2:])
export_run(run, ["saved_model"], out / "exports", Console(quiet=True))
[export] = (out / "exports").glob("*/1")
print(kzoo.load_backbone(run).count_params() == kzoo.load_backbone(export).count_params() > 0)
for call in (["list", "backbones", "convnet4"], ["embed", str(run), f"folder:{pictures}", "--out", str(out / "e.npz")]):
    try:
        main(call)
    except SystemExit as stop:
        print("ended with", stop.code)
"""


def test_what_only_training_needs_may_be_missing_where_a_backbone_is_loaded_exported_and_used(run, pictures, tmp_path):
    call = [sys.executable, "-c", LOAD_AND_SERVE, ",".join(ONLY_TRAINING_NEEDS), str(run), str(pictures), str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told[0] == "True", done.stdout
    assert [line for line in told if line.startswith("ended")] == ["ended with 0"] * 2, done.stdout + done.stderr
    assert len(table.read(tmp_path / "e.npz").name) == 10
