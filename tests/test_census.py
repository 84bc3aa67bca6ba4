"""What a folder of examples holds, by names and links alone: empty files do."""

import json
import os
import subprocess
import sys
import time

import pytest

from kzoo.errors import DataError, NoSplit
from kzoo.folder.census import Census, census_lines, hash_share, image_census, survey
from kzoo.folder.layout import split_kind
from kzoo.folder.walk import File
from kzoo.options import FolderOptions


@pytest.fixture
def put(tmp_path):
    """put("a/1.png", ...): empty files in the folder `data`."""

    def write(*names: str) -> None:
        for name in names:
            file = tmp_path / "data" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

    return write


@pytest.fixture
def taken(tmp_path):
    """taken(**options): the census, and of each split the names and labels."""

    def take(**options):
        census = image_census(str(tmp_path / "data"), FolderOptions(**options))
        return census, {split: {file.name: file.label for file in files} for split, files in census.splits.items()}

    return take


def classes_in(*splits: str) -> list[str]:
    return [f"{split}/{label}/{number}.png" for split in splits for label in "ab" for number in range(3)]


# ---- splits and classes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "train") for name in ("train", "Training", "TRAIN", "train2017", "train_images", "trainA")),
        *((name, "test") for name in ("Test", "testing", "test-2", "hold-out", "heldout")),
        *((name, "val") for name in ("val", "valid", "Validation", "dev", "val2", "eval")),
        *((name, "unlabeled") for name in ("unlabeled", "Unlabelled", "unsup")),
        ("extra", "extra"),
        *((name, None) for name in ("cat", "trains", "invalid", "device", "tests", "retrain", "contrain", "2017", "")),
    ],
)
def test_what_folders_of_splits_are_called(name, kind):
    assert split_kind(name) == kind


@pytest.mark.parametrize(
    ("first", "second", "asked"),
    [
        ("Train", "Test", ("train", "test")),
        ("training", "testing", ("train", "test")),
        ("TRAIN", "TEST", ("Training", "testing")),
        ("train", "dev", ("train", "validation")),
        ("train2017", "val2017", ("train", "val2017")),
    ],
)
def test_folders_of_splits_by_any_name_are_splits_and_never_classes(put, taken, first, second, asked):
    put(*classes_in(first, second))
    census, splits = taken()
    assert census.layout == "splits"
    assert census.classes == ("a", "b")
    assert splits[census.find(asked[0])] == {name: name.split("/")[1] for name in classes_in(first)}
    assert splits[census.find(asked[1])] == {name: name.split("/")[1] for name in classes_in(second)}
    with pytest.raises(NoSplit, match="no split 'extra'; it has "):
        census.find("extra")


def test_unlabelled_images_are_a_split_of_their_own_without_labels(put, taken):
    put(*classes_in("train", "test"), "unlabeled/1.png", "unlabeled/c/2.png")
    census, splits = taken()
    assert census.classes == ("a", "b")
    assert splits[census.find("unlabelled")] == {"unlabeled/1.png": None, "unlabeled/c/2.png": None}
    assert census.labels("unlabeled") == [-1, -1]
    assert "  unlabeled: 2, unlabelled" in census_lines(census.as_json())
    assert census.labels("train") == [0, 0, 0, 1, 1, 1]


def test_two_folders_of_one_kind_keep_their_names(put, taken):
    put(*classes_in("train", "val", "val2"))
    census, splits = taken()
    assert sorted(splits) == ["train", "val", "val2"]
    assert census.find("val") == "val"
    with pytest.raises(NoSplit, match="no split 'validation'; it has train, val, val2"):
        census.find("validation")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (classes_in("train", "test", "cat"), "as splits, with cat as splits too, or as 3 classes; .*splits or classes"),
        (["bus/1.png", "train/1.png"], "as splits, with bus as splits too, or as 2 classes"),
        (
            ["cat/train/1.png", "cat/test/1.png", "dog/train/1.png"],
            "as classes, or as folders of splits, for cat holds",
        ),
        (classes_in("pets/train", "pets/test"), r"for pets holds test, train; name folder:\S+/pets for those"),
        (
            classes_in("train/train", "test/train", "train/test"),
            "as splits with classes in them, or as folders of split",
        ),
        (
            classes_in("tr", "te"),
            "as 2 classes, or as splits by other names, for each holds a, b; set .* classes or splits",
        ),
        (classes_in("pets"), r"all its images lie in pets, .*as classes, then name folder:\S+/pets; or as no labels"),
    ],
)
def test_sub_folders_that_can_be_read_in_two_ways_are_refused_with_both(put, taken, names, message):
    put(*names)
    with pytest.raises(DataError, match=message) as caught:
        taken()
    assert "\n" not in str(caught.value)
    assert "data.options.layout" in str(caught.value)


def test_the_option_chooses_how_sub_folders_are_read(put, taken):
    put("bus/x/1.png", "bus/y/2.png", "train/x/1.png", "train/y/2.png", "0.png")
    census, splits = taken(layout="classes", test_fraction=0.5)
    assert census.classes == ("bus", "train")
    assert {split: sorted(map(str, files.values())) for split, files in splits.items()} == {
        "train": ["None", "bus", "train"],
        "test": ["bus", "train"],
    }
    census, splits = taken(layout="splits")
    assert sorted(splits) == ["bus", "train"]
    assert census.classes == ("x", "y")
    assert census.left_out == {"in no split": 1}
    census, splits = taken(layout="flat", test_fraction=0.4)
    assert census.classes == ()
    assert [len(splits[split]) for split in ("train", "test")] == [3, 2]


def test_a_class_may_have_the_name_of_a_split_among_others(put, taken):
    put(*[f"{split}/{label}/1.png" for split in ("train", "test") for label in ("bus", "train")])
    assert taken()[0].classes == ("bus", "train")


# ---- the split that kzoo makes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "held"), [(1, 0), (2, 0), (3, 1), (10, 2), (12, 2), (13, 3), (40, 8)])
def test_each_class_has_its_rounded_share_held_out(put, taken, count, held):
    put(*[f"a/{number}.png" for number in range(count)], *[f"b/{number}.png" for number in range(100)])
    _, splits = taken()
    counts = {split: [list(files.values()).count(label) for label in "ab"] for split, files in splits.items()}
    assert counts == {"train": [count - held, 80], "test": [held, 20]}
    hashes = [{hash_share(name) for name in files if name[0] == "b"} for files in splits.values()]
    assert min(hashes[0]) > max(hashes[1])


def test_a_file_that_is_added_moves_at_most_one_other(put, taken):
    put(*[f"{label}/{number}.png" for label in "ab" for number in range(20)])
    _, splits = taken()
    for added in range(20, 40):
        before = splits
        put(f"a/{added}.png")
        _, splits = taken()
        assert len(before["test"].keys() - splits["test"].keys()) <= 1
        assert {name for name in splits["test"] if name[0] == "b"} == {
            name for name in before["test"] if name[0] == "b"
        }


def test_a_large_folder_is_split_in_time_that_grows_with_its_files(tmp_path):
    files = tuple(
        File(f"{number % 100}/{number}.png", 1, 1, (1, number), 0, str(number % 100)) for number in range(20_000)
    )
    census = Census("folder:x", tmp_path, "image", "classes", {"train": files}, {}, {}, {})
    started = time.process_time()
    split = census.hold_out(0.2)
    assert [part["files"] for part in split.as_json()["splits"].values()] == [16_000, 4_000]
    assert time.process_time() - started < 10  # a tenth of a second here; where each file looks at all, minutes


def test_train_keeps_one_of_each_class_and_a_test_split_of_nothing_is_none(put, taken):
    put("a/1.png", "a/2.png", "b/1.png")
    _, splits = taken(test_fraction=0.99)
    assert [sorted(files.values()) for files in splits.values()] == [["a", "b"], ["a"]]
    census, splits = taken()
    assert list(splits) == ["train"]
    assert census_lines(census.as_json())[-1] == "  nothing is held out: 20% of each class is no image"
    with pytest.raises(NoSplit, match="no split 'test'; it has train"):
        census.find("test")


# ---- what is left out, and why ---------------------------------------------------------------------------------------


def test_whatever_is_not_used_is_counted(put, taken, tmp_path):
    put("a/1.png", "a/2.PPM", "a/3.avif", "a/4.jfif", "a/5.JPG", "a/6.tga", "b/1.jp2", "b/2.webp")
    put("a/notes.txt", "b/more.TXT", "b/film.mp4", "README", ".DS_Store", ".git/1.png", "a/._1.png", "a/page.pdf")
    census, _ = taken()
    assert census.used == 8
    expected = {".txt": 2, ".mp4": 1, ".pdf": 1, "hidden": 3, "no suffix": 1}
    assert census.left_out == expected
    assert census.as_json()["seen"] == 8 + sum(expected.values())
    assert "  left out: 3 hidden, 2 .txt, 1 .mp4, 1 .pdf, 1 no suffix" in census_lines(census.as_json())
    (tmp_path / "data" / "a").rename(tmp_path / "a")
    (tmp_path / "data" / "b").rename(tmp_path / "b")
    with pytest.raises(DataError, match="holds no image; left out: 2 hidden, 1 no suffix"):
        taken()


def test_links_to_folders_and_files_are_followed(put, taken, tmp_path):
    put("c/1.png")
    for label in "ab":
        (tmp_path / "store" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "store" / label / f"{number}.png").touch()
        (tmp_path / "data" / label).symlink_to(tmp_path / "store" / label)
    (tmp_path / "store" / "b" / "deeper").mkdir()
    (tmp_path / "store" / "b" / "deeper" / "4.png").touch()
    (tmp_path / "data" / "c" / "2.png").symlink_to("1.png")
    (tmp_path / "data" / "c" / "3.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "elsewhere.png").touch()
    census, splits = taken()
    assert census.classes == ("a", "b", "c")
    labels = [label for files in splits.values() for label in files.values()]
    assert [labels.count(label) for label in "abc"] == [3, 4, 2]
    assert census.left_out == {"linked again": 1}  # c/2.png is c/1.png


def test_circles_of_links_end(put, taken, tmp_path):
    put("a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png")
    data = tmp_path / "data"
    (data / "a" / "here").symlink_to(".")
    (data / "a" / "up").symlink_to("..")
    (data / "a" / "above").symlink_to(tmp_path)
    (data / "a" / "other").symlink_to("../b")
    (data / "b" / "other").symlink_to("../a")
    (data / "self.png").symlink_to("self.png")
    census, splits = taken()
    assert sorted(name for files in splits.values() for name in files) == [
        *("a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png")
    ]
    assert census.broken == {"self.png": "a link to itself"}
    assert census.left_out["linked again"] == 5  # each class has the other's once more


def test_a_linked_copy_of_a_class_is_no_class_and_the_test_split_no_part_of_train(put, taken, tmp_path):
    put(*[f"a/{number}.png" for number in range(10)], *[f"b/{number}.png" for number in range(10)])
    (tmp_path / "data" / "again").symlink_to("b")
    os.link(tmp_path / "data" / "a" / "0.png", tmp_path / "data" / "b" / "hard.png")
    census, splits = taken()
    assert census.classes == ("a", "b")
    assert census.used == 20
    assert census.left_out == {"linked again": 12}  # again/hard.png too
    assert len(splits["test"]) == 4


def test_files_that_two_splits_share_are_told(put, taken, tmp_path):
    put(*classes_in("train"), "test/b/7.png", "test/c/8.png")
    (tmp_path / "data" / "test" / "a").symlink_to("../train/a")
    notes = taken()[0].as_json()["notes"]
    assert notes == ["classes of test that train lacks: c", "3 of test are in train too, by links"]


def test_what_is_no_file_is_never_opened(put, taken, tmp_path):
    put("a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png", "x.jpg/4.png")
    os.mkfifo(tmp_path / "data" / "a" / "pipe.jpg")
    (tmp_path / "data" / "a" / "device.png").symlink_to("/dev/zero")
    (tmp_path / "data" / "a" / "gone.png").symlink_to("/nowhere/gone.png")
    (tmp_path / "data" / "gone").symlink_to("/nowhere/at/all")
    (tmp_path / "data" / "gone.txt").symlink_to("/nowhere/at/all")
    census, _ = taken()
    assert census.classes == ("a", "b", "x.jpg")  # a folder may have such a name
    assert census.broken == {
        "a/pipe.jpg": "a FIFO, not a file",
        "a/device.png": "a device, not a file",
        "a/gone.png": "a link to nothing",
        "gone": "a link to nothing",
    }
    assert census.left_out == {".txt": 1}


# ---- words -----------------------------------------------------------------------------------------------------------


def test_the_lines_say_what_was_decided(put, taken, tmp_path):
    put(*classes_in("Training", "Testing"), "Testing/c/1.png", "Training/0.png", "Training/x.txt")
    assert census_lines(taken()[0].as_json()) == [
        f"{tmp_path}/data: 14 of 15 files are used",
        "  test: 7: a 3, b 3, c 1 (folder Testing)",
        "  train: 7: a 3, b 3, c 0, 1 unlabelled (folder Training)",
        "  left out: 1 .txt",
        "  classes of test that train lacks: c",
    ]


def test_names_of_any_kind_are_printable_and_valid_json(put, taken, tmp_path):
    put("a\n\x1b[31m/1.png", "a\n\x1b[31m/2.png", "b/1.png", "b/2.png", "b/3.png")
    os.rename(os.fsencode(tmp_path / "data" / "b"), os.fsencode(tmp_path / "data") + b"/caf\xe9")
    (tmp_path / "data" / "bad\n.png").symlink_to("/nowhere/at/all")
    census = taken()[0].as_json()
    assert census["classes"] == [r"a\n\x1b[31m", r"caf\xe9"]
    assert census["broken"] == {r"bad\n.png": "a link to nothing"}
    assert all(line.isprintable() for line in census_lines(census))
    assert json.loads(json.dumps(census, ensure_ascii=False).encode("utf-8")) == census


def test_many_classes_and_names_are_summed_up(put, taken, tmp_path):
    put(*[f"{label}/{number}.png" for label in range(30) for number in range(3 + label % 2)])
    for number in range(7):
        (tmp_path / "data" / f"{number}.png").symlink_to("/nowhere/at/all")
    lines = census_lines(taken()[0].as_json())
    assert lines[1] == "  train: 75, 30 classes of 2 to 3"
    assert lines[-1].endswith("4.png (a link to nothing) and 2 more")


def test_another_kind_of_file_is_surveyed_by_the_same_rules(put, tmp_path):
    put("Train/a/1.txt", "Train/b/2.txt", "Test/a/3.TXT", "Test/b/4.png")
    census = survey("text:data", str(tmp_path / "data"), [".txt"], "text")
    assert {split: [file.name for file in files] for split, files in census.splits.items()} == {
        "test": ["Test/a/3.TXT"],
        "train": ["Train/a/1.txt", "Train/b/2.txt"],
    }
    assert census.left_out == {".png": 1}


def test_a_census_is_light(put, tmp_path):
    put(*classes_in("train", "test"))
    code = f"""
import sys
from kzoo.folder.census import image_census
from kzoo.options import FolderOptions
print(image_census({str(tmp_path / "data")!r}, FolderOptions()).used, {{"tensorflow", "keras"}} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "12 set()\n"


# ---- a few labelled beside many that are not -------------------------------------------------------------------------


@pytest.mark.parametrize("rest", ["", "unlabeled/", "Unlabelled/2019/"])
def test_the_unlabelled_may_lie_beside_the_classes(put, taken, rest):
    put(*(f"{label}/{number}.png" for label in ("cat", "dog") for number in range(5)))
    put(*(f"{rest}{number}.png" for number in range(10)))
    census, splits = taken()
    assert census.layout == "classes"
    assert census.classes == ("cat", "dog")
    labels = list(splits["train"].values())
    assert [labels.count(name) for name in ("cat", "dog", None)] == [4, 4, 10]
    assert sorted(splits["test"].values()) == ["cat", "dog"]  # what has no label tests nothing
    assert "  train: 18: cat 4, dog 4, 10 unlabelled" in census_lines(census.as_json())


def test_the_unlabelled_beside_train_and_test_are_a_split(put, taken):
    put(*classes_in("train", "test"), "unlabeled/1.png")
    census, splits = taken()
    assert census.layout == "splits"
    assert list(splits["unlabeled"].values()) == [None]
