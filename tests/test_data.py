"""Sources and streams: order, resuming, sharding, what is in memory, and what tensorflow-datasets prepared."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from kzoo import random, text
from kzoo.data import (
    Source,
    array_source,
    evaluation_batches,
    resize_and_crop,
    text_source,
    tfds_source,
    to_float,
    training_stream,
)
from kzoo.data.cache import cache_dir, prepare_once
from kzoo.errors import DataError, StrategyError
from kzoo.options import TFDSOptions

SIZE = 22  # not a multiple of the batch: the remainder of an epoch is dropped
BATCH = 8
STEPS = SIZE // BATCH


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def numbered(size: int = SIZE) -> Source:
    """Each 2x2 image is filled with its own row number."""
    images = np.tile(np.arange(size, dtype=np.uint8)[:, None, None, None], (1, 2, 2, 1))
    return array_source("numbered", images, np.arange(size) % 2, ("even", "odd"))


def one_by_one(source: Source) -> Source:
    """The same source, decoded one example at a time."""
    return Source(source.name, source.size, source.classes, source.image_shape, source.examples, source.decode)


def noisy(batch, keys):
    """A transform with randomness, so that the tests see the keys too."""
    return {"id": batch["id"], "image": to_float(batch["image"]) + random.uniform(keys, (2, 2, 1)), "seed": keys}


def take(source: Source, count: int, **arguments) -> list[dict[str, np.ndarray]]:
    stream = training_stream(source, noisy, **{"batch_size": BATCH, "seed": 5, **arguments})
    return list(stream.take(count).as_numpy_iterator())


def assert_equal(left: list, right: list) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


# ---- the training stream ---------------------------------------------------------------------------------------------


def test_an_epoch_holds_no_example_twice_and_epochs_differ():
    ids = [batch["id"] for batch in take(numbered(), 3 * STEPS)]
    epochs = [np.concatenate(ids[start : start + STEPS]) for start in (0, STEPS, 2 * STEPS)]
    for epoch in epochs:
        assert len(set(epoch)) == STEPS * BATCH
        assert set(epoch) <= set(range(SIZE))
    assert not np.array_equal(epochs[0], epochs[1])
    assert set(epochs[0]) != set(epochs[1]) or set(epochs[0]) != set(epochs[2])  # the remainder is not always the same


def test_order_and_keys_depend_on_seed_epoch_and_position_alone():
    whole = take(numbered(), 2 * STEPS)
    tf.random.set_seed(99)  # the global seed must have no say
    assert_equal(take(numbered(), 2 * STEPS), whole)
    assert_equal(take(one_by_one(numbered()), 2 * STEPS), whole)
    assert not np.array_equal(take(numbered(), 1, seed=6)[0]["id"], whole[0]["id"])
    for step, batch in enumerate(whole):
        epoch, within = divmod(step, STEPS)
        positions = within * BATCH + tf.range(BATCH, dtype=tf.int64)
        np.testing.assert_array_equal(batch["seed"], random.example_keys(5, epoch, positions))


def test_half_the_batch_sees_the_same_examples_and_the_same_randomness():
    halves = take(numbered(16), 4, batch_size=4)
    wholes = take(numbered(16), 2, batch_size=8)
    for key in ("id", "image"):
        np.testing.assert_array_equal(
            np.concatenate([b[key] for b in halves]), np.concatenate([b[key] for b in wholes])
        )


@pytest.mark.parametrize("start", [1, STEPS, STEPS + 1, 5 * STEPS - 1])
def test_a_stream_resumes_at_any_step(start):
    whole = take(numbered(), 5 * STEPS + 2)
    assert_equal(take(numbered(), len(whole) - start, start_step=start), whole[start:])


def test_what_is_skipped_is_not_decoded():
    source, last = numbered(), 8 * STEPS - 1
    skipped = np.concatenate([batch["id"] for batch in take(source, STEPS - 1, start_step=7 * STEPS)])

    def decode(index):
        tf.debugging.Assert(tf.reduce_all(index != skipped), [index])
        return source.decode(index)

    spied = Source(source.name, source.size, source.classes, source.image_shape, source.examples, decode)
    assert_equal(take(spied, 1, start_step=last), take(source, 1, start_step=last))
    with pytest.raises(tf.errors.InvalidArgumentError):
        take(spied, 1, start_step=last - 1)


@pytest.mark.parametrize("form", [numbered, lambda: one_by_one(numbered())])
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_replicas_together_see_the_global_batch(form, replicas):
    whole = take(form(), STEPS + 1, start_step=1)
    shards = [take(form(), STEPS + 1, start_step=1, shard_index=r, shard_count=replicas) for r in range(replicas)]
    for step, batch in enumerate(whole):
        for key, value in batch.items():
            parts = [shard[step][key] for shard in shards]
            assert all(len(part) == BATCH // replicas for part in parts)
            np.testing.assert_array_equal(np.concatenate(parts), value)


def test_a_worker_emits_its_replicas_in_turn():
    arguments = {"shard_count": 4}
    each = [take(numbered(), 3, shard_index=replica, **arguments) for replica in (2, 3)]
    both = take(numbered(), 6, shard_index=2, local_shards=2, **arguments)
    assert_equal(both, [batch for step in zip(*each, strict=True) for batch in step])


def test_batches_that_cannot_be_made_are_refused():
    with pytest.raises(DataError, match="22 examples do not fill one batch of 23"):
        take(numbered(), 1, batch_size=23)
    with pytest.raises(StrategyError, match="8 does not divide by 3 replicas"):
        take(numbered(), 1, shard_count=3)
    with pytest.raises(StrategyError, match="no replicas 1 to 2 among 2"):
        take(numbered(), 1, shard_index=1, shard_count=2, local_shards=2)
    assert len(take(numbered(), 1, batch_size=22)[0]["id"]) == 22


def test_batch_shapes_are_static():
    spec = training_stream(numbered(), noisy, batch_size=8, seed=0, shard_count=2).element_spec
    assert spec["image"].shape == (4, 2, 2, 1)


# ---- evaluation, conversion, arrays ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [numbered, lambda: one_by_one(numbered())])
def test_evaluation_reads_everything_once_in_order(form):
    batches = list(evaluation_batches(form(), 8).as_numpy_iterator())
    assert [len(batch["id"]) for batch in batches] == [8, 8, 6]
    np.testing.assert_array_equal(np.concatenate([batch["id"] for batch in batches]), np.arange(SIZE))
    np.testing.assert_array_equal(np.concatenate([batch["label"] for batch in batches]), np.arange(SIZE) % 2)
    assert batches[0]["image"].dtype == np.float32
    np.testing.assert_array_equal(batches[1]["image"][3], np.full((2, 2, 1), np.float32(11) / np.float32(255)))


@pytest.mark.parametrize("form", [numbered, lambda: one_by_one(numbered())])
def test_only_the_chosen_examples_are_decoded_and_no_batch_is_empty(form):
    """Of many batches in which nothing was chosen none reaches a model: a convolution of no image fails."""
    source, decoded = form(), []

    def counting(raw):
        found = source.decode(raw)
        tf.py_function(lambda ids: decoded.extend(np.atleast_1d(ids).tolist()), [found["id"]], [])
        return found

    wanted = np.array([SIZE - 1, 3])
    watched = dataclasses.replace(source, decode=counting)
    batches = list(evaluation_batches(watched, 2, ids=wanted))
    assert [batch["id"].numpy().tolist() for batch in batches] == [[3, SIZE - 1]]
    assert sorted(decoded) == [3, SIZE - 1]


def test_evaluation_resizes_the_shorter_side_and_crops_the_centre():
    columns = np.repeat([0, 0, 100, 100, 100, 100, 200, 200], 1).astype(np.uint8)
    images = np.broadcast_to(columns[None, None, :, None], (1, 4, 8, 1)).copy()
    source = array_source("wide", images)
    same = next(evaluation_batches(source, 1, size=4).as_numpy_iterator())["image"][0]
    np.testing.assert_allclose(same, np.full((4, 4, 1), 100 / 255), rtol=1e-6)  # the central four columns
    half = next(evaluation_batches(source, 1, size=2).as_numpy_iterator())["image"][0]
    assert half.shape == (2, 2, 1)
    # a triangle two old pixels to each side: weights 1 3 3 1, of which one falls outside the grey centre
    np.testing.assert_allclose(half[:, :, 0] * 255, [[87.5, 112.5]] * 2, rtol=1e-5)


def test_resizing_knows_its_shape_and_leaves_the_right_size_alone():
    exact = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_and_crop(tf.constant(exact), 5), exact)
    sized = tf.function(lambda image: resize_and_crop(image, 6)).get_concrete_function(
        tf.TensorSpec([None, None, 3], tf.uint8)
    )
    assert sized.output_shapes == (6, 6, 3)
    for height, width in ((9, 31), (31, 9), (6, 7)):
        assert sized(tf.zeros([height, width, 3], tf.uint8)).shape == (6, 6, 3)


def test_to_float_converts_bytes_and_passes_floats():
    np.testing.assert_array_equal(to_float(np.uint8([0, 51, 255])), np.float32([0, 0.2, 1]))
    np.testing.assert_array_equal(to_float(np.float32([0.25, 1.0])), np.float32([0.25, 1.0]))


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (np.zeros((2, 4, 4, 1), np.float32), None, (), "must be uint8"),
        (np.zeros((2, 4, 4), np.uint8), None, (), "must be uint8"),
        (np.zeros((2, 4, 4, 2), np.uint8), None, (), "must be uint8"),
        (np.zeros((0, 4, 4, 1), np.uint8), None, (), "must be uint8"),
        (np.zeros((2, 4, 4, 1), np.uint8), [0], ("a",), "must be 2 integers"),
        (np.zeros((2, 4, 4, 1), np.uint8), [0.0, 0.5], ("a",), "must be 2 integers"),
        (np.zeros((2, 4, 4, 1), np.uint8), [0, 1], ("a",), "received 0 to 1"),
        (np.zeros((2, 4, 4, 1), np.uint8), [-2, 0], ("a",), "received -2 to 0"),
    ],
)
def test_arrays_that_are_not_images_are_refused(images, labels, classes, message):
    with pytest.raises(DataError, match=message):
        array_source("mine", images, labels, classes)


def test_arrays_without_labels_are_unlabelled():
    source = array_source("mine", np.zeros((3, 4, 4, 3), np.uint8))
    assert (source.size, source.classes, source.image_shape) == (3, (), (4, 4, 3))
    assert next(evaluation_batches(source, 3).as_numpy_iterator())["label"].tolist() == [-1, -1, -1]


def test_a_digest_changes_with_pixels_labels_and_order_and_with_nothing_else():
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 1), dtype=np.uint8)
    labels, classes = np.array([0, 1, 1, 0]), ("a", "b")
    first = array_source("here", images, labels, classes).digest
    assert array_source("there", images.copy(), list(labels), classes).digest == first
    changed = images.copy()
    changed[3, 1, 1, 0] ^= 1
    others = [
        array_source("here", changed, labels, classes),
        array_source("here", images[::-1], labels, classes),
        array_source("here", images, 1 - labels, classes),
        array_source("here", images, labels, ("a", "c")),
        array_source("here", images.reshape(4, 4, 1, 1), labels, classes),
    ]
    assert len({first, *(source.digest for source in others)}) == 6


def whole(source: Source) -> dict[str, np.ndarray]:
    return next(evaluation_batches(source, source.size).as_numpy_iterator())


def bytes_of(batch) -> np.ndarray:
    return np.round(batch["image"] * 255).astype(int)


# ---- preparing once --------------------------------------------------------------------------------------------------


def writer(content: str, calls: list):
    def write(scratch):
        calls.append(content)
        (scratch / "made").mkdir()
        (scratch / "made" / "data").write_text(content)
        return scratch / "made"

    return write


def test_an_interrupted_preparation_leaves_nothing(tmp_path):
    def interrupted(scratch):
        (scratch / "made").mkdir()
        (scratch / "made" / "data").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_once(tmp_path / "place", interrupted)
    assert list(tmp_path.iterdir()) == []
    calls = []
    assert (prepare_once(tmp_path / "place", writer("whole", calls)) / "data").read_text() == "whole"
    prepare_once(tmp_path / "place", writer("again", calls))
    assert calls == ["whole"]


@pytest.mark.parametrize("damage", ["whol", "wholf", None])
def test_a_damaged_folder_is_made_again(tmp_path, damage):
    calls = []
    prepare_once(tmp_path / "place", writer("whole", calls))
    if damage is None:
        (tmp_path / "place" / "data").unlink()
    else:
        (tmp_path / "place" / "data").write_text(damage)
    with pytest.warns(UserWarning, match="damaged; preparing it again"):
        prepare_once(tmp_path / "place", writer("new", calls))
    assert (tmp_path / "place" / "data").read_text() == "new"
    assert calls == ["whole", "new"]
    assert [path.name for path in tmp_path.glob("*place*")] == ["place"]


def test_the_second_of_two_processes_takes_what_the_first_made(tmp_path):
    calls = []

    def slow(scratch):
        prepare_once(tmp_path / "place", writer("first", calls))  # another process is done before this one
        return writer("second", calls)(scratch)

    assert (prepare_once(tmp_path / "place", slow) / "data").read_text() == "first"
    assert calls == ["first", "second"]
    assert [path.name for path in tmp_path.glob("*place*")] == ["place"]


def test_many_processes_prepare_at_once(tmp_path):
    code = f"""
import os, pathlib, time, kzoo.data.cache
def write(scratch):
    (scratch / "made").mkdir()
    (scratch / "made" / "data").write_text(str(os.getpid()))
    time.sleep(0.5)
    return scratch / "made"
print((kzoo.data.cache.prepare_once(pathlib.Path({str(tmp_path)!r}) / "place", write) / "data").read_text())
"""
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {process.communicate()[0].strip() for process in started}
    assert len(answers) == 1
    assert answers <= {str(process.pid) for process in started}


def test_where_the_cache_is(tmp_path, monkeypatch):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.setenv("KZOO_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "kzoo"


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"set KZOO_CACHE") as caught:
        prepare_once(tmp_path / "file" / "place", writer("x", []))
    assert "\n" not in str(caught.value)


# ---- tensorflow-datasets ---------------------------------------------------------------------------------------------


class KzooToy(tfds.core.GeneratorBasedBuilder):
    """Twelve pictures, larger than wide, whose red is their number, and features that kzoo must not trip on."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(6, 4, 3)),
            "wild": tfds.features.Image(shape=(None, None, 3)),
            "clear": tfds.features.Image(shape=(4, 4, 4)),
            "label": tfds.features.ClassLabel(names=["even", "odd"]),
            "other": tfds.features.ClassLabel(num_classes=3),
            "words": tfds.features.Sequence(tfds.features.Text()),
            "number": np.int64,
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features), disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(12), "test": self._generate_examples(3)}

    def _generate_examples(self, count):
        for number in range(count):
            yield (
                number,
                {
                    "image": np.full((6, 4, 3), (number, 0, 0), np.uint8),
                    "wild": np.full((8 + number, 12, 3), number, np.uint8),
                    "clear": np.full((4, 4, 4), (0, 0, 0, 0), np.uint8),
                    "label": number % 2,
                    "other": number % 3,
                    "words": ["a"] * number,
                    "number": number,
                },
            )


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> str:
    data_dir = str(tmp_path_factory.mktemp("tfds"))
    KzooToy(data_dir=data_dir).download_and_prepare()
    return data_dir


def test_a_prepared_builder_is_read_with_its_classes(toy):
    source = tfds_source("kzoo_toy", "train", TFDSOptions(data_dir=toy))
    assert (source.name, source.size, source.classes) == ("tfds:kzoo_toy", 12, ("even", "odd"))
    assert source.image_shape == (6, 4, 3)
    batch = whole(source)
    assert batch["id"].tolist() == list(range(12))
    assert bytes_of(batch)[:, 0, 0, 0].tolist() == list(range(12))
    assert batch["label"].tolist() == [0, 1] * 6
    ids = {int(i) for b in take_ids(source) for i in b}
    assert ids == set(range(12))


def take_ids(source):
    stream = training_stream(source, lambda batch, keys: batch["id"], batch_size=4, seed=3)
    return list(stream.take(3).as_numpy_iterator())


def test_the_digest_of_a_builder_knows_split_keys_and_size(toy):
    def digest(split="train", **options):
        return tfds_source("kzoo_toy", split, TFDSOptions(data_dir=toy, **options)).digest

    assert digest() == digest()
    assert len({digest(), digest("test"), digest("train[:50%]"), digest(label_key="other"), digest(size=8)}) == 5


def test_slices_other_keys_sizes_and_alpha(toy):
    sliced = tfds_source("kzoo_toy", "train[50%:]", TFDSOptions(data_dir=toy, label_key="other"))
    assert sliced.classes == ("0", "1", "2")
    assert whole(sliced)["id"].tolist() == list(range(6))
    assert whole(sliced)["label"].tolist() == [0, 1, 2, 0, 1, 2]
    wild = tfds_source("kzoo_toy", "test", TFDSOptions(data_dir=toy, image_key="wild", size=8, label_key=None))
    assert (wild.image_shape, wild.classes) == ((8, 8, 3), ())
    assert bytes_of(whole(wild))[:, 3, 3, 0].tolist() == [0, 1, 2]
    assert whole(wild)["label"].tolist() == [-1, -1, -1]
    clear = tfds_source("kzoo_toy", "test", TFDSOptions(data_dir=toy, image_key="clear"))
    assert clear.image_shape == (4, 4, 3)
    assert (bytes_of(whole(clear)) == 128).all()  # transparent black on mid-grey


@pytest.mark.parametrize(
    ("name", "split", "options", "message"),
    [
        ("no_such_builder", "train", {}, "knows no such builder"),
        ("mnist", "train", {}, "run: tfds build mnist --data_dir"),
        ("kzoo_toy", "dev", {}, "no split 'dev'; it has t"),
        ("kzoo_toy", "train[:0%]", {}, "is empty"),
        ("kzoo_toy", "train", {"image_key": "picture"}, "no feature 'picture'"),
        ("kzoo_toy", "train", {"image_key": "number"}, "must be uint8"),
        ("kzoo_toy", "train", {"image_key": "wild"}, r"set data\.options\.size"),
        ("kzoo_toy", "train", {"label_key": "number"}, "'number' is no class label; .* label, other"),
    ],
)
def test_what_cannot_be_read_is_one_line(toy, name, split, options, message):
    with pytest.raises(DataError, match=message) as caught:
        tfds_source(name, split, TFDSOptions(data_dir=toy, **options))
    assert "\n" not in str(caught.value)


VOCABULARY = (*text.SPECIAL, "read", "##ing", "a", "book")


def test_text_comes_back_row_by_row():
    tokens = np.array([[2, 5, 6, 3, 0], [2, 7, 8, 3, 0], [2, 5, 7, 8, 3]], np.int32)
    source = text_source("letters", tokens, VOCABULARY, [0, -1, 1], ("x", "y"), {"next_tokens": tokens[::-1].copy()})
    assert (source.modality, source.length, source.size) == ("text", 5, 3)
    [batch] = evaluation_batches(source, 8)
    np.testing.assert_array_equal(batch["tokens"], tokens)
    np.testing.assert_array_equal(batch["next_tokens"], tokens[::-1])
    np.testing.assert_array_equal(batch["label"], [0, -1, 1])
    assert text.words(tokens[0], source.vocabulary) == "[CLS] reading [SEP]"


@pytest.mark.parametrize(
    ("tokens", "vocabulary", "message"),
    [
        (np.zeros((2, 3), np.int64), VOCABULARY, r"x: tokens must be int32 \[N, T\]; received int64 \[2, 3\]"),
        (np.full((2, 3), 9, np.int32), VOCABULARY, r"x: tokens must lie in 0 to 8; received 9 to 9"),
        (np.zeros((2, 3), np.int32), ("read",), r"x: a vocabulary begins with \[PAD\], \[UNK\]"),
    ],
)
def test_text_that_cannot_be_used(tokens, vocabulary, message):
    with pytest.raises(DataError, match=message):
        text_source("x", tokens, vocabulary)


def test_pixels_of_0_to_255_as_floats_are_refused_by_name():
    with pytest.raises(DataError, match=r"floats up to 255; give floats in \[0, 1\], or pixels of 0 to 255 as uint8"):
        to_float(np.float32([0, 128, 255]))
    np.testing.assert_array_equal(to_float(np.float32([-3.0, 5.0])), np.float32([-3.0, 5.0]))  # noise on an image
