"""The siamese-triplet network: its loss by hand, which negatives are taken, and tracks that follow what moves."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_temporal.data.tracks import followed
from kzoo_temporal.examples import VIDEOS, texture
from kzoo_temporal.modalities import VIDEO
from kzoo_temporal.options import SiameseTripletOptions
from kzoo_temporal.siamese_triplet import SiameseTriplet, retrieval

import kzoo
from kzoo.testing.examples import raw_batch
from kzoo.testing.tiny import tiny_backbone


def build(**options):
    keras.utils.set_random_seed(0)
    small = {"hidden": [16], "width": 8, **options}
    return kzoo.build_method("siamese_triplet", tiny_backbone((32, 32, 3)), data=VIDEOS.source(32, 3), **small)


@pytest.fixture(scope="module")
def hard():
    """All six candidates of a batch of three pairs, by cost."""
    return build(random_epochs=0, negatives=6)


def unit(rows):
    return tf.constant(np.float32(rows / np.linalg.norm(rows, axis=-1, keepdims=True)))


def batch(clips=(4, 9, 7)):
    ids = tf.range(len(clips), dtype=tf.int64)
    return {"clip": tf.constant(clips, tf.int64), "id": ids, "seed": ids}


def rows(seed, count=3):
    return unit(np.random.default_rng(seed).normal(size=(count, 5)))


class TestLoss:
    def test_a_collapsed_network_costs_the_margin(self, hard):
        alike = unit(np.ones((3, 5)))
        logs = hard.loss({"first": alike, "last": alike}, batch())
        assert float(logs["loss"]) == pytest.approx(0.5, abs=1e-6)
        assert hard.chance() == {"loss": 0.5}

    def test_is_that_of_every_negative_by_hand(self, hard):
        first, last = rows(0), rows(1)
        clips = (4, 9, 4)
        x, y, expected = first.numpy(), last.numpy(), []
        for i in range(3):
            together = 1 - x[i] @ y[i]
            others = [n for j in range(3) if clips[j] != clips[i] for n in (x[j], y[j])]
            costs = [max(0, together - (1 - end @ n) + 0.5) for n in others for end in (x[i], y[i])]
            expected.append(np.mean(costs))
        found = hard.loss({"first": first, "last": last}, batch(clips))
        assert float(found["loss"]) == pytest.approx(np.mean(expected), abs=1e-6)

    def test_random_unit_vectors_cost_about_the_margin(self, hard):
        first, last = (unit(np.random.default_rng(seed).normal(size=(3, 1024))) for seed in (0, 1))
        assert float(hard.loss({"first": first, "last": last}, batch())["loss"]) == pytest.approx(0.5, abs=0.1)

    def test_both_patches_count_alike(self, hard):
        one, other = {"first": rows(0), "last": rows(1)}, {"first": rows(1), "last": rows(0)}
        assert float(hard.loss(one, batch())["loss"]) == pytest.approx(float(hard.loss(other, batch())["loss"]))

    def test_one_video_alone_has_no_negatives(self, hard):
        assert float(hard.loss({"first": rows(0), "last": rows(1)}, batch((4, 4, 4)))["loss"]) == 0

    def test_what_keeps_the_margin_teaches_nothing(self, hard):
        """Each pair on an axis of its own, both patches alike: 1 away from every other."""
        first = tf.Variable(np.eye(3, 5, dtype="float32"))
        with tf.GradientTape() as tape:
            logs = hard.loss({"first": first, "last": tf.constant(np.eye(3, 5, dtype="float32"))}, batch())
        assert float(logs["loss"]) == 0
        assert float(logs["solved"]) == 1
        assert np.abs(tape.gradient(logs["loss"], first)).max() == 0


class TestNegatives:
    def test_the_hardest_are_those_that_cost_most(self):
        outputs = {"first": rows(0), "last": rows(1)}
        costs = [float(build(random_epochs=0, negatives=n).loss(outputs, batch())["loss"]) for n in (1, 2, 4)]
        assert costs == sorted(costs, reverse=True)
        assert costs[0] > costs[2]

    def test_at_first_they_are_drawn_by_both_examples_alone(self):
        method = build(negatives=2)
        costs, ids = tf.zeros((3, 6)), tf.tile(tf.range(3, dtype=tf.int64), [2])
        drawn = method._scores(costs, batch()["seed"], ids).numpy()
        assert len(np.unique(drawn)) == 18
        assert 0 <= drawn.min() < drawn.max() < 1
        turned = [2, 0, 1]  # the batch in another order: what is drawn goes with the examples
        again = method._scores(costs, tf.gather(batch()["seed"], turned), tf.tile(tf.constant(turned, tf.int64), [2]))
        np.testing.assert_array_equal(again, drawn[turned][:, [2, 0, 1, 5, 3, 4]])


def test_the_ends_of_a_clip_are_the_pair_each_with_a_crop_of_its_own():
    raw = raw_batch(VIDEOS.source(32, 3), 4)
    options = SiameseTripletOptions(scale=(1.0, 1.0), flip=0.0)
    ends = VIDEO.take(raw, SiameseTriplet.choose(raw, raw["id"], options))
    whole = SiameseTriplet.pretext(ends, raw["id"], options)
    np.testing.assert_allclose(whole["first"], raw["video"][:, 0].numpy() / 255, atol=0.3)
    assert np.abs(whole["first"].numpy() - raw["video"][:, 0].numpy() / 255).mean() < 0.1
    assert np.abs(whole["last"].numpy() - raw["video"][:, -1].numpy() / 255).mean() < 0.1
    np.testing.assert_array_equal(whole["clip"], raw["clip"])


def test_retrieval_is_the_share_that_finds_its_own():
    last = np.eye(4)
    assert retrieval(np.eye(4), last) == 1
    assert retrieval(np.eye(4)[[0, 1, 3, 2]], last) == 0.5
    swapped = 0.9 * np.eye(4)[[0, 1, 3, 2]] + 0.1 * np.eye(4)
    assert retrieval(swapped, last, clip=np.array([0, 1, 2, 2])) == 1  # the others are of the same video
    assert retrieval(swapped, last, clip=np.array([0, 0, 1, 2])) == 0.5


class TestTracks:
    @pytest.fixture(scope="class")
    def found(self):
        """A square of 20 pixels that moves right by 1 a frame over a still picture."""
        rng = np.random.default_rng(0)
        ground, square = texture(rng, 48, 64, 3), texture(rng, 20, 20, 3)
        frames = np.repeat(np.uint8(255 * ground)[None], 12, axis=0)
        for number in range(12):
            frames[number, 14:34, 10 + number : 30 + number] = np.uint8(255 * square)
        return list(followed(frames, patch=24, length=8, stride=6))

    def test_a_box_goes_where_what_is_in_it_goes(self, found):
        assert found
        for first, y, x, last_y, last_x in found:
            assert first == 0
            assert abs(last_y - y) <= 1
            assert last_x - x == pytest.approx(7, abs=1)

    def test_boxes_are_those_in_which_something_moves_and_something_does_not(self, found):
        for _, y, x, _, _ in found:
            covered = max(0, min(y + 24, 34) - max(y, 14)) * max(0, min(x + 24, 30) - max(x, 10)) / 24**2
            assert 0.1 < covered < 0.9  # the flow's window of 11 pixels blurs the border

    def test_what_stands_still_has_none(self):
        still = np.repeat(np.uint8(255 * texture(np.random.default_rng(0), 48, 64, 3))[None], 9, axis=0)
        assert list(followed(still, patch=24, length=8, stride=6)) == []
