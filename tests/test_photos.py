"""The guide "Your own photos": its commands, on real photographs of mixed sizes and kinds."""

import json
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest
import tensorflow as tf
from PIL import Image

from kzoo.cli.app import main
from kzoo.use import table

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def guide():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield import_module("photos_guide")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def place(guide, tmp_path_factory):
    """A folder `photos`, and the recipe of the guide, of two epochs; (folder, planted copies)."""
    place = tmp_path_factory.mktemp("guide")
    pairs = guide.make_photos(place / "photos", 130, 6, labelled=0.8)
    (place / "recipes").mkdir()
    text = (ROOT / "recipes/folder.yaml").read_text()
    assert "epochs: 60" in text
    (place / "recipes/folder.yaml").write_text(text.replace("epochs: 60", "epochs: 2"))
    return place, pairs


def test_the_photographs_are_of_mixed_sizes_and_kinds(place):
    files = [path for path in (place[0] / "photos").rglob("*") if path.is_file()]
    assert len(files) == 130
    images = [Image.open(path) for path in files]
    assert len({image.size for image in images}) > 50
    assert {image.mode for image in images} == {"RGB", "RGBA", "L"}
    assert {image.format for image in images} == {"JPEG", "PNG", "WEBP"}
    assert any(image.getexif().get(274) == 6 for image in images)


def test_the_commands_lead_from_photographs_to_a_classifier(guide, place, monkeypatch, capsys):
    folder, pairs = place
    monkeypatch.chdir(folder)
    shorter = {"finetune": ["--steps", "2"]}  # else as they are written
    for command in guide.commands():
        words = shlex.split(command)[1:]
        with pytest.raises(SystemExit) as left:
            main([*words, *shorter.get(words[0], [])])
        assert left.value.code in (0, None), f"{command}: {capsys.readouterr().err}"
    out = capsys.readouterr().out
    found = table.read(folder / "embeddings.parquet")
    assert len(found) == 130
    assert {name for pair in pairs for name in pair} <= set(found.name)
    assert found.facts["data"] == f"folder:{folder / 'photos'}"
    for sheet in ("duplicates.png", "neighbours.png"):
        assert Image.open(folder / sheet).size[0] > 300
    report = json.loads((folder / "runs/photos-finetuned/evaluation.json").read_text())
    assert f"{report['pretext']['own']['test_accuracy']:.1%}" in out.rpartition("The classifier")[2]
    [version] = (folder / "runs/photos-finetuned/exports/photos-finetuned").iterdir()
    classify = tf.saved_model.load(str(version)).signatures["classify"]
    answer = classify(image=tf.zeros((1, 48, 48, 3), tf.uint8))
    assert [name.decode() for name in answer["classes"].numpy()[0]] == sorted(guide.PHOTOGRAPHS)
    assert float(tf.reduce_sum(answer["probabilities"])) == pytest.approx(1, abs=1e-5)
