"""Folders of image files: what is used as what, what is left out and why, and the records made of it."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import kzoo
from kzoo.data import Source, evaluation_batches, training_stream
from kzoo.errors import DataError, NoSplit, OptionsError, printable
from kzoo.folder import folder_source
from kzoo.folder.census import census_lines, hash_share
from kzoo.folder.images import read_image
from kzoo.options import FolderOptions
from kzoo.plugins.registry import find_backbone
from kzoo.plugins.targets import too_small
from kzoo.recipe.load import load
from kzoo.recipe.schema import Recipe
from kzoo.runs.build import build_backbone, open_sources


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("KZOO_CACHE", str(folder))
    return folder


def colours(folder, *images: tuple[str, tuple[int, int, int]], size=(8, 8)) -> None:
    """Write images of one colour each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, colour in images:
        Image.new("RGB", size, colour).save(folder / name)


def whole(source: Source) -> dict[str, np.ndarray]:
    return next(evaluation_batches(source, source.size).as_numpy_iterator())


def bytes_of(batch) -> np.ndarray:
    return np.round(batch["image"] * 255).astype(int)


def pairs(source: Source) -> set[tuple[int, int]]:
    """(label, red) of every image."""
    batch = whole(source)
    return set(zip(batch["label"].tolist(), bytes_of(batch)[:, 0, 0, 0].tolist(), strict=True))


def test_files_of_every_format_and_mode_become_rgb(tmp_path):
    root = tmp_path / "images" / "train"
    root.mkdir(parents=True)
    red = Image.new("RGB", (8, 8), (250, 10, 20))
    half = Image.new("RGBA", (8, 8), (250, 10, 20, 51))  # alpha 0.2
    red.save(root / "a.png")
    red.save(root / "b.JPG", quality=100, subsampling=0)
    red.save(root / "c.bmp")
    red.save(root / "d.webp", lossless=True)
    Image.new("P", (8, 8), 1).save(root / "e.gif", save_all=True, append_images=[Image.new("P", (8, 8), 0)])
    half.save(root / "f.png")
    Image.fromarray(np.full((8, 8), 40 * 257, np.uint16)).save(root / "g.png")
    bright = np.full((8, 8), 41 * 257, np.uint16)
    bright[0, 0] = 65535  # so all 16 bits are in use
    Image.fromarray(bright).save(root / "h.tiff")
    Image.new("L", (8, 8), 42).save(root / "i.png")
    Image.new("LA", (8, 8), (0, 0)).save(root / "j.png")
    red.convert("CMYK").save(root / "k.jpeg", quality=100)
    red.quantize(2).save(root / "l.png")
    (root / "notes.txt").write_text("not an image")
    source = folder_source(str(tmp_path / "images"), "train", FolderOptions())
    assert (source.size, source.image_shape, source.classes) == (12, (8, 8, 3), ())
    batch = whole(source)
    middle = bytes_of(batch)[:, 4, 4]
    blend = [round(0.2 * value + 0.8 * 128) for value in (250, 10, 20)]
    expected = {0: (250, 10, 20), 2: (250, 10, 20), 3: (250, 10, 20), 5: blend, 6: (40,) * 3, 7: (41,) * 3}
    expected |= {8: (42,) * 3, 9: (128,) * 3, 11: (250, 10, 20)}
    for row, colour in expected.items():
        np.testing.assert_allclose(middle[row], colour, atol=1, err_msg=str(row))
    np.testing.assert_allclose(middle[[1, 10]], [(250, 10, 20)] * 2, atol=4)  # JPEG loses a little
    assert batch["id"].tolist() == list(range(12))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ordinary name-1.png", "ordinary name-1.png"),
        ("Größe 猫.png", "Größe 猫.png"),
        ("two\nlines\t.png", r"two\nlines\t.png"),
        ("\x1b[31mred\x07.png", r"\x1b[31mred\x07.png"),
        ("gnp.\u202ecod", r"gnp.\u202ecod"),
        ("caf\udce9.png", r"caf\xe9.png"),
        ("\ud800.png", r"\ud800.png"),
    ],
)
def test_a_name_is_printed_without_what_steers_a_terminal(name, shown):
    assert printable(name) == shown
    assert printable(shown) == shown


def test_a_folder_of_grey_images_stays_grey_and_one_coloured_image_ends_that(tmp_path):
    for number in range(3):
        (tmp_path / "train").mkdir(exist_ok=True)
        Image.new("L", (4, 4), number).save(tmp_path / "train" / f"{number}.png")
    assert folder_source(str(tmp_path), "train", FolderOptions()).image_shape == (4, 4, 1)
    colours(tmp_path / "train", ("x.png", (1, 2, 3)), size=(4, 4))
    assert folder_source(str(tmp_path), "train", FolderOptions()).image_shape == (4, 4, 3)


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (8, 4), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 4, 4))  # white on the left
    exif = Image.Exif()
    exif[274] = 6  # turn a quarter clockwise to see it upright
    image.save(tmp_path / "a.png", exif=exif)
    pixels = read_image(tmp_path / "a.png")
    assert pixels.shape == (8, 4, 3)
    assert pixels[1, 2].tolist() == [255, 255, 255]  # the left side is on top
    assert pixels[6, 2].tolist() == [0, 0, 0]


def test_sub_folders_are_the_classes_and_a_share_of_each_is_held_out(tmp_path):
    for label, count in (("cat", 40), ("dog", 10), ("eel", 1)):
        for number in range(count):
            colours(tmp_path / "pets" / label, (f"{number}.png", (number, 0, 0)), size=(4, 4))
    options = FolderOptions(test_fraction=0.25)
    train, test = (folder_source(str(tmp_path / "pets"), split, options) for split in ("train", "test"))
    assert train.classes == test.classes == ("cat", "dog", "eel")
    assert np.bincount(whole(test)["label"]).tolist() == [10, 3]  # 2.5 is rounded up
    assert np.bincount(whole(train)["label"]).tolist() == [30, 7, 1]
    held_out = pairs(test)
    expected = {(0, number) for number in range(40)} | {(1, number) for number in range(10)} | {(2, 0)}
    assert pairs(train) | held_out == expected
    assert not pairs(train) & held_out
    assert train.census == test.census
    assert train.census["held_out_share"] == 0.25


def test_split_folders_share_their_classes(tmp_path):
    colours(tmp_path / "train" / "b", ("1.png", (1, 1, 1)))
    colours(tmp_path / "train" / "c", ("1.png", (2, 2, 2)))
    colours(tmp_path / "test" / "a", ("1.png", (3, 3, 3)))
    colours(tmp_path / "test" / "c", ("1.png", (4, 4, 4)))
    train, test = (folder_source(str(tmp_path), split, FolderOptions()) for split in ("train", "test"))
    assert train.classes == test.classes == ("a", "b", "c")
    assert whole(train)["label"].tolist() == [1, 2]
    assert whole(test)["label"].tolist() == [0, 2]
    with pytest.raises(NoSplit, match=r"no split 'validation'; it has test, train$"):
        folder_source(str(tmp_path), "validation", FolderOptions())


def test_mixed_sizes_need_a_size(tmp_path):
    colours(tmp_path / "train", ("a.png", (9, 9, 9)), size=(10, 12))
    colours(tmp_path / "train", ("b.png", (9, 9, 9)), size=(20, 20))
    with pytest.raises(DataError, match=r"2 sizes, from 10x12 to 20x20; set data\.options\.size"):
        folder_source(str(tmp_path), "train", FolderOptions())
    assert folder_source(str(tmp_path), "train", FolderOptions(size=8)).image_shape == (8, 8, 3)


def test_one_list_names_the_broken_files_of_all_splits_with_reasons(tmp_path):
    colours(tmp_path / "train", ("a.png", (1, 0, 0)), ("b.jpg", (2, 0, 0)), ("c.png", (3, 0, 0)), size=(32, 32))
    colours(tmp_path / "test", ("a.png", (4, 0, 0)), size=(32, 32))
    jpeg = tmp_path / "train" / "b.jpg"
    jpeg.write_bytes(jpeg.read_bytes()[:-200])  # the header is whole, the picture is not
    (tmp_path / "train" / "d.png").write_bytes(b"this is no picture")
    (tmp_path / "train" / "e.png").write_bytes(b"")
    (tmp_path / "train" / "f.png").symlink_to("/nowhere/f.png")
    os.mkfifo(tmp_path / "test" / "g.jpg")
    (tmp_path / "test" / "two\nlines\x1b[31m.gif").write_bytes(b"GIF89a")
    expected = {
        "test/g.jpg": "a FIFO, not a file",
        r"test/two\nlines\x1b[31m.gif": "no image that Pillow knows",
        "train/b.jpg": "Truncated File Read",
        "train/d.png": "no image that Pillow knows",
        "train/e.png": "an empty file",
        "train/f.png": "a link to nothing",
    }
    with pytest.raises(
        DataError, match=r"cannot read 6 broken files: test/g\.jpg \(a FIFO, not a file\), .* and 1 more"
    ) as caught:
        folder_source(str(tmp_path), "train", FolderOptions())
    assert str(caught.value).isprintable()
    path = str(caught.value).split("all are in ")[1].split(";")[0]
    listed = dict(line.split("\t") for line in Path(path).read_text("utf-8").splitlines())
    assert listed == expected
    for split, rows in (("train", [1, 3]), ("test", [4]), ("train", [1, 3])):  # the last time from the cache
        with pytest.warns(UserWarning, match=f"left out 6 broken files: .*{path}"):
            source = folder_source(str(tmp_path), split, FolderOptions(skip_broken=True))
        assert whole(source)["id"].tolist() == list(range(len(rows)))
        assert bytes_of(whole(source))[:, 0, 0, 0].tolist() == rows
        assert source.census["broken"] == expected
        assert (source.census["seen"], source.census["used"]) == (9, 3)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    colours(tmp_path / "train", ("a.png", (1, 0, 0)), size=(30, 30))
    colours(tmp_path / "train", ("bomb.png", (1, 0, 0)), size=(40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow itself would only warn up to 2000
    with (
        pytest.raises(DataError, match=r"train/bomb\.png \(40x40 pixels; the limit is 1000"),
        pytest.warns(Image.DecompressionBombWarning),
    ):
        folder_source(str(tmp_path), "train", FolderOptions(size=8))


@pytest.mark.parametrize(("make", "message"), [(False, "no such folder"), (True, "holds no image")])
def test_nothing_to_read_is_an_error(tmp_path, make, message):
    if make:
        (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=message):
        folder_source(str(tmp_path / "nothing"), "train", FolderOptions())


def test_channels_and_size_are_decided_for_all_splits_at_once(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "all" / split).mkdir(parents=True)
        Image.new("L", (4, 4), 7).save(tmp_path / "all" / split / "grey.png")
    assert folder_source(str(tmp_path / "all"), "train", FolderOptions()).image_shape == (4, 4, 1)
    colours(tmp_path / "all" / "test", ("colour.png", (1, 2, 3)), size=(4, 4))
    train, test = (folder_source(str(tmp_path / "all"), split, FolderOptions()) for split in ("train", "test"))
    assert train.image_shape == test.image_shape == (4, 4, 3)
    assert bytes_of(whole(train))[0, 0, 0].tolist() == [7, 7, 7]
    assert train.census["images"]["modes"] == {"L": 2, "RGB": 1}
    colours(tmp_path / "all" / "test", ("larger.png", (1, 2, 3)), size=(5, 4))
    with pytest.raises(DataError, match="2 sizes, from 4x4 to 5x4"):  # of the other split
        folder_source(str(tmp_path / "all"), "train", FolderOptions())


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_the_depth_is_that_of_the_brightest_image_of_all_splits(tmp_path, suffix):
    for split, tops in (("train", (0, 2047)), ("test", (4095,))):
        (tmp_path / split).mkdir()
        for top in tops:
            image = Image.fromarray(np.array([[0, top], [top, top // 2]], np.uint16))
            image.save(tmp_path / split / f"{top}.{suffix}")
    train, test = (folder_source(str(tmp_path), split, FolderOptions()) for split in ("train", "test"))
    assert bytes_of(whole(train))[:, :, :, 0].tolist() == [[[0, 0], [0, 0]], [[0, 127], [127, 64]]]
    assert bytes_of(whole(test))[:, :, :, 0].tolist() == [[[0, 255], [255, 127]]]
    assert train.census["images"]["bits"] == 12
    assert "  depth: grey values wider than 8 bits use 12 bits: 4,095 is white" in census_lines(train.census)


def test_dark_colour_of_16_bits_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    for name, value in (("a", 4095), ("b", 16383)):
        tf.io.write_file(f"{tmp_path}/train/{name}.png", tf.io.encode_png(np.full((4, 4, 3), value, np.uint16)))
    with pytest.raises(DataError, match="2 colour images of 16 bits use the lower ones alone"):
        folder_source(str(tmp_path), "train", FolderOptions())
    tf.io.write_file(f"{tmp_path}/train/c.png", tf.io.encode_png(np.full((4, 4, 3), 16384, np.uint16)))
    source = folder_source(str(tmp_path), "train", FolderOptions())
    assert bytes_of(whole(source))[:, 0, 0, 0].tolist() == [15, 63, 64]


def test_a_turned_tiff_has_its_own_shape(tmp_path):
    colours(tmp_path / "train", ("a.tif", (1, 1, 1)), size=(4, 6))
    exif = Image.Exif()
    exif[274] = 6
    wide = Image.new("RGB", (6, 4), (0, 0, 0))
    wide.paste((255, 255, 255), (0, 0, 6, 1))  # white above, which is right when upright
    wide.save(tmp_path / "train" / "b.tif", exif=exif)
    source = folder_source(str(tmp_path), "train", FolderOptions())
    assert source.image_shape == (6, 4, 3)
    assert bytes_of(whole(source))[1, :, :, 0].tolist() == [[0, 0, 0, 255]] * 6


@pytest.fixture
def recipe(tmp_path):
    """recipe(data, **options): a recipe that trains on the folder `data`."""

    def write(data: str, split: str = "train", **options) -> Recipe:
        text = f"""
kzoo: 1
name: r
data: {{name: "folder:{tmp_path / data}", split: {split}, options: {json.dumps(options)}}}
backbone: {{name: convnet4}}
method: {{name: rotation}}
optimizer: {{name: adam, learning_rate: 1.0e-3}}
train: {{epochs: 1, batch_size: 8}}
"""
        (tmp_path / "r.yaml").write_text(text)
        return load(tmp_path / "r.yaml")

    return write


def test_a_test_split_that_cannot_be_read_is_an_error_and_none_at_all_is_not(tmp_path, recipe):
    colours(tmp_path / "pets" / "train", ("a.png", (1, 0, 0)))
    train, test = open_sources(recipe("pets"))
    assert (train.size, test) == (1, None)
    colours(tmp_path / "pets" / "testing", ("a.png", (2, 0, 0)))
    assert [source.size for source in open_sources(recipe("pets"))] == [1, 1]
    assert open_sources(recipe("pets", split="Testing"))[1] is None  # which is what it would be tested on
    assert open_sources(recipe("pets", split="train"))[1].size == 1
    (tmp_path / "pets" / "testing" / "a.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"cannot read 1 broken file: testing/a\.png"):
        open_sources(recipe("pets"))
    with pytest.raises(DataError, match="no image of split 'test' can be read"), pytest.warns(match="left out"):
        open_sources(recipe("pets", skip_broken=True))


def test_images_that_are_too_small_for_the_backbone_are_refused_before_it_is_built(tmp_path, recipe):
    colours(tmp_path / "pets" / "train", ("a.png", (1, 0, 0)), size=(10, 10))
    source = open_sources(recipe("pets"))[0]
    small = "images of 10 x 10 pixels are too small for 'convnet4', which takes 16 and up"
    with pytest.raises(DataError, match=rf"^folder:\S+: {small}; set data\.options\.size$"):
        build_backbone(recipe("pets"), source)
    with pytest.raises(OptionsError, match=small):
        kzoo.build_backbone("convnet4", source.image_shape)
    assert (
        too_small(find_backbone("vit_tiny"), (4, 9, 3)) == too_small(find_backbone("convnet4"), (None, None, 3)) == ""
    )
    source = open_sources(recipe("pets", size=16))[0]
    assert build_backbone(recipe("pets", size=16), source).input_shape == (None, 16, 16, 3)


def test_names_that_are_not_utf8_are_names_like_others(tmp_path):
    for label in (b"caf\xe9", b"the"):
        folder = os.path.join(os.fsencode(tmp_path), b"pets", label)
        os.makedirs(folder)
        for number in range(5):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "x.png")
            os.rename(tmp_path / "x.png", os.path.join(folder, b"\xff%d\x1b.png" % number))
    sources = [folder_source(str(tmp_path / "pets"), split, FolderOptions()) for split in ("train", "test")]
    assert [source.size for source in sources] == [8, 2]
    assert sources[0].classes == (r"caf\xe9", "the")
    assert pairs(sources[0]) | pairs(sources[1]) == {(label, number) for label in (0, 1) for number in range(5)}
    assert json.loads(json.dumps(sources[0].census, ensure_ascii=False).encode()) == sources[0].census


def test_the_digest_is_that_of_names_contents_labels_and_decisions_wherever_the_folder_lies(tmp_path):
    def digest(name="set", split="train", **options):
        return folder_source(str(tmp_path / name), split, FolderOptions(**options)).digest

    for label in ("a", "b"):
        for number in range(5):
            colours(tmp_path / "set" / label, (f"{number}.bmp", (number, 9, 9)))
    first, test = digest(), digest(split="test")
    shutil.copytree(tmp_path / "set", tmp_path / "elsewhere")
    (tmp_path / "set" / "notes.txt").write_text("not used")
    assert digest() == digest("elsewhere") == first  # without what is not used, and the time of the last change
    train = folder_source(str(tmp_path / "set"), "train", FolderOptions())
    assert train.census["left_out"] == {".txt": 1}
    kept = max(
        os.listdir(tmp_path / "set" / "a"), key=lambda name: hash_share(f"a/{name}")
    )  # the highest hash: not of the test split
    digests = {first, test, digest(size=9), digest(test_fraction=0.5), digest(layout="flat")}
    colours(tmp_path / "set" / "a", (kept, (99, 9, 9)))  # of the same size in bytes
    digests |= {digest()}
    assert digest(split="test") == test
    (tmp_path / "set" / "a").rename(tmp_path / "set" / "c")
    digests |= {digest()}
    assert len(digests) == 7


def test_records_are_prepared_once_and_anew_when_a_file_changes(tmp_path, cache):
    colours(tmp_path / "set" / "train", ("a.png", (1, 0, 0)), ("b.png", (2, 0, 0)))

    def made() -> dict[str, int]:
        folder_source(str(tmp_path / "set"), "train", FolderOptions())
        return {str(path): path.stat().st_mtime_ns for path in cache.rglob("*.tfrecord")}

    first = made()
    assert len(first) == 1
    assert made() == first
    colours(tmp_path / "set" / "train", ("b.png", (77, 0, 0)))
    assert len(made()) == 2
    assert bytes_of(whole(folder_source(str(tmp_path / "set"), "train", FolderOptions())))[1, 0, 0, 0] == 77


def test_large_sets_are_shuffled_by_file_and_still_resume(tmp_path, monkeypatch):
    monkeypatch.setattr("kzoo.folder.source._SHARD", 3 * 48)  # a few images in each file of records
    monkeypatch.setattr("kzoo.data.source._SHUFFLE_BYTES", 5 * 48)  # five images in the buffer
    for number in range(20):
        colours(tmp_path / "train", (f"{number:02d}.png", (number, 0, 0)), size=(4, 4))
    source = folder_source(str(tmp_path), "train", FolderOptions())

    def flat(batch, keys):
        return {"id": batch["id"], "red": batch["image"][:, 0, 0, 0], "seed": keys}

    stream = list(training_stream(source, flat, batch_size=5, seed=1).take(8).as_numpy_iterator())
    ids = np.concatenate([batch["id"] for batch in stream])
    assert sorted(ids[:20]) == sorted(ids[20:]) == list(range(20))
    assert not np.array_equal(ids[:20], ids[20:])
    np.testing.assert_array_equal(ids, np.concatenate([batch["red"] for batch in stream]))
    resumed = training_stream(source, flat, batch_size=5, seed=1, start_step=6).take(2)
    for batch, again in zip(stream[6:], resumed.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(batch["id"], again["id"])
        np.testing.assert_array_equal(batch["seed"], again["seed"])
