"""Frames that a method asks for by an example's key: no other is read, and all is as if it had been."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from kzoo_temporal.data.clips import video_source
from kzoo_temporal.examples import VIDEOS
from kzoo_temporal.modalities import VIDEO

import kzoo
from kzoo.data import training_stream
from kzoo.data.labels import hide_labels
from kzoo.random import example_keys, integers
from kzoo.testing.examples import raw_batch
from kzoo.testing.tiny import tiny_backbone

CLIPS, LENGTH, BATCH = 12, 6, 4


class Frames:
    """Frame i is filled with i; which were read is written down."""

    shape, dtype = (CLIPS * LENGTH, 2, 2, 1), np.uint8

    def __init__(self):
        self.read = []

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        self.read.append(rows.copy())
        return np.uint8(rows[..., None, None, None] * np.ones(self.shape[1:], int))


def clips(frames):
    rows = np.arange(len(frames))
    return video_source(
        "v", frames, rows / 10, LENGTH * np.arange(CLIPS), LENGTH, np.arange(CLIPS), np.zeros(CLIPS, int), ["a"], rows
    )


def choose(known, keys):
    """Two of each clip, and how many there are; what takes decoding, and the label, is not known."""
    assert set(known) == {"id", "time", "motion", "clip"}
    return {"frame": integers(keys, (2,), 0, LENGTH), "frames": tf.fill(tf.shape(keys), known["time"].shape[1])}


def batches(source, count=3, **settings):
    settings = {"batch_size": BATCH, "seed": 3, "choose": choose, **settings}
    stream = training_stream(source, lambda batch, keys: {**batch, "key": keys}, **settings)
    return list(stream.take(count).as_numpy_iterator())


def assert_same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for name, value in left.items():
            np.testing.assert_array_equal(value, right[name], name)


def test_what_was_asked_for_is_read_and_nothing_else():
    frames = Frames()
    found = batches(clips(frames), 2 * CLIPS // BATCH)
    for batch in found:
        rows = LENGTH * batch["id"][:, None] + integers(tf.constant(batch["key"]), (2,), 0, LENGTH).numpy()
        np.testing.assert_array_equal(batch["video"][..., 0, 0, 0], rows)
        np.testing.assert_allclose(batch["time"], rows / 10, rtol=1e-6)
        np.testing.assert_array_equal(batch["frames"], LENGTH)
        assert any(np.array_equal(rows, read) for read in frames.read)
    assert all(read.shape == (BATCH, 2) for read in frames.read)
    first, again = (
        {number: frame for batch in some for number, frame in zip(batch["id"], batch["frame"].tolist(), strict=True)}
        for some in (found[: CLIPS // BATCH], found[CLIPS // BATCH :])
    )
    assert first.keys() == again.keys()
    assert first != again  # in another epoch others


@pytest.mark.parametrize("form", ["frames are left out", "decoded one by one", "decoded whole", "some labels hidden"])
def test_the_same_frames_whatever_the_source_can(form):
    source = clips(Frames())
    other = {
        "frames are left out": source,
        "decoded one by one": replace(source, batched=False),
        "decoded whole": replace(source, chooses=False),
        "some labels hidden": hide_labels(source, np.arange(CLIPS)),
    }[form]
    expected = batches(source)
    assert_same(batches(other), expected)
    assert_same(batches(other, 1, start_step=2), expected[2:])
    parts = batches(other, 4, shard_count=2, local_shards=2)
    joined = [
        {name: np.concatenate([a[name], b[name]]) for name in a} for a, b in zip(parts[::2], parts[1::2], strict=True)
    ]
    assert_same(joined, expected[:2])


METHODS = {
    "shuffle_and_learn": {"tau_min": 2, "tau_max": 4},
    "siamese_triplet": {},
    "time_contrastive": {"loss": "npairs", "radius": 1},
    "monodepth2": {"scales": 2},
}


@pytest.mark.parametrize("name", METHODS)
def test_training_is_given_what_whole_clips_would_give(name):
    source = VIDEOS.source(32, 3)
    method = kzoo.build_method(name, tiny_backbone((32, 32, 3)), data=source, **METHODS[name])
    batch = next(iter(method.stream(source, batch_size=8, seed=0)))
    ids = batch["id"].numpy()
    raw = {key: tf.gather(value, ids) for key, value in raw_batch(source, source.size).items()}
    whole = method.transform(raw, example_keys(0, 0, tf.range(8, dtype=tf.int64)))
    assert whole.keys() == batch.keys()
    for key, value in whole.items():
        np.testing.assert_allclose(batch[key], value, atol=1e-5, err_msg=key)


def test_a_method_that_asks_for_nothing_is_given_all():
    source = VIDEOS.source(32, 3)
    raw = raw_batch(source, 2)
    assert VIDEO.take(raw, {"more": raw["id"]}) is raw
