"""`kzoo similar`: planted duplicates are found, neighbours are the nearest, and the sheet shows them."""

import json

import numpy as np
import pytest
from PIL import Image

from kzoo.cli.app import main
from kzoo.errors import EmbeddingsError
from kzoo.use import index, similar, table
from kzoo.use.table import Embeddings


def embeddings(vectors, names=None, **facts):
    names = names or [f"{number:04d}.png" for number in range(len(vectors))]
    return Embeddings(names, ["train"] * len(names), ["x"] * len(names), np.asarray(vectors, "float32"), facts)


@pytest.fixture
def planted(monkeypatch):
    """200 embeddings, all positive and so nearly parallel; 150 and 199 are copies of 3, and 60 of 61, with noise."""
    monkeypatch.setattr(index, "BLOCK", 64)
    rng = np.random.default_rng(0)
    vectors = 10 + rng.normal(size=(200, 32))
    for copy, of in ((150, 3), (199, 3), (60, 61)):
        vectors[copy] = vectors[of] + 0.01 * rng.normal(size=32)
    return embeddings(vectors)


def test_all_planted_duplicates_are_found_and_no_others(planted):
    answers = similar.near_duplicates(planted, 0.98)
    groups = {frozenset([one.name, *(name for name, _, _ in one.others)]) for one in answers}
    assert groups == {frozenset(["0003.png", "0150.png", "0199.png"]), frozenset(["0060.png", "0061.png"])}
    assert all(value > 0.999 for one in answers for _, _, value in one.others)


def test_a_chain_is_one_group():
    angles = np.deg2rad([0, 5, 10, 15, 20])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = embeddings(np.concatenate([points, -points]))  # their mean is 0
    sizes = sorted(1 + len(one.others) for one in similar.near_duplicates(found, np.cos(np.deg2rad(9))))
    assert sizes == [5, 5]


def test_neighbours_are_those_of_a_search_by_hand(planted):
    [one] = similar.nearest(planted, ["0042.png"], 5)
    centred = planted.vectors - planted.vectors.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    values = unit @ unit[42]
    values[42] = -2
    order = np.argsort(-values)[:5]
    assert [name for name, _, _ in one.others] == [f"{place:04d}.png" for place in order]
    np.testing.assert_allclose([value for _, _, value in one.others], values[order], atol=1e-5)


def test_a_name_is_known_by_its_end_and_an_unknown_one_is_told():
    found = embeddings(np.eye(3), ["a/1.png", "b/1.png", "b/2.png"])
    assert similar.nearest(found, ["2.png"], 1)[0].name == "b/2.png"
    with pytest.raises(EmbeddingsError, match=r"--of 1\.png: 2 examples are called so"):
        similar.nearest(found, ["1.png"], 1)
    with pytest.raises(EmbeddingsError, match=r"--of 9\.png: no such file among the 3; a/1\.png is one"):
        similar.nearest(found, ["9.png"], 1)


def test_too_many_pairs_are_refused(monkeypatch):
    monkeypatch.setattr(similar, "_PAIRS", 10)
    found = embeddings(np.random.default_rng(0).normal(size=(20, 4)))
    with pytest.raises(EmbeddingsError, match=r"--above -1: more than 10 pairs are so similar; raise it"):
        similar.near_duplicates(found, -1.0)


def call(capsys, *arguments):
    try:
        main(["similar", *map(str, arguments)])
    except SystemExit as left:
        return left.code or 0, *capsys.readouterr()
    return 0, *capsys.readouterr()


def test_the_command_writes_a_table_json_and_a_sheet_of_the_pictures(tmp_path, capsys):
    folder = tmp_path / "pics"
    folder.mkdir()
    for number, colour in enumerate(("red", "red", "blue")):
        Image.new("RGB", (40, 30), colour).save(folder / f"{number}.png")
    vectors = [[1, 0, 0], [1, 0.001, 0], [0, 0, 1]]
    table.write(tmp_path / "e.npz", embeddings(vectors, [f"{n}.png" for n in range(3)], data=f"folder:{folder}"))
    code, out, _ = call(capsys, tmp_path / "e.npz", "--sheet", tmp_path / "s.png")
    assert code == 0
    assert any(line.split()[1:] == ["1.png", "0.png"] for line in out.splitlines())
    pixels = np.asarray(Image.open(tmp_path / "s.png").convert("RGB"))
    red, blue = ((pixels == colour).all(axis=-1) for colour in ((255, 0, 0), (0, 0, 255)))
    assert (np.diff(red.any(axis=0).astype(int)) == 1).sum() == 2  # two red pictures beside each other, no blue one
    assert not blue.any()
    code, out, _ = call(capsys, tmp_path / "e.npz", "--of", "2.png", "--nearest", 1, "--json")
    assert code == 0
    [one] = json.loads(out)
    assert one["name"] == "2.png"
    assert one["others"][0]["name"] in ("0.png", "1.png")


def test_a_sheet_without_pictures_is_refused(tmp_path, capsys):
    table.write(tmp_path / "e.npz", embeddings([[1, 0], [1, 0], [0, 1]], data="digits"))
    code, _, said = call(capsys, tmp_path / "e.npz", "--sheet", tmp_path / "s.png")
    assert code == 2
    assert "only embeddings of a folder have pictures" in said.replace("\n", " ")


def test_the_index_finds_what_comparing_all_finds(monkeypatch):
    """2,000 embeddings of which 200 have a copy, by angles of 0 to 0.4: recall of the pairs above 0.95."""
    rng = np.random.default_rng(1)
    unit = rng.normal(size=(2000, 48)).astype("float32")
    directions = rng.normal(size=(200, 48)).astype("float32")
    norms = np.linalg.norm(unit, axis=1, keepdims=True)
    unit[1800:] = unit[:200] + rng.uniform(0, 0.4, (200, 1)) * directions * norms[:200] / np.sqrt(48)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    exact = {tuple(pair) for some in index.alike(unit, 0.95) for pair in some.T}
    assert len(exact) > 100
    monkeypatch.setattr(index, "LARGE", 1000)
    assert index.approximate(len(unit))
    found = {tuple(pair) for some in index.alike(unit, 0.95) for pair in some.T}
    assert found <= exact
    assert len(found) >= 0.99 * len(exact)


def test_many_embeddings_are_compared_one_by_one_without_the_index(monkeypatch):
    monkeypatch.setattr(index, "LARGE", 10)
    monkeypatch.setattr(index, "available", lambda: False)
    assert not index.approximate(11)
