"""Time-contrastive networks: who is positive and negative of whom, mining by hand, where the spatial softmax points."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_temporal.examples import VIDEOS
from kzoo_temporal.parts.spatial import SpatialSoftmax
from kzoo_temporal.time_contrastive import TimeContrastive, alignment, distances, masks, semi_hard

import kzoo
from kzoo.errors import OptionsError
from kzoo.losses import l2_normalize
from kzoo.random import fold_in
from kzoo.testing.examples import raw_batch
from kzoo.testing.tiny import tiny_backbone

SMALL = {"convolutions": [8], "hidden": 16, "width": 8}


def build(**options):
    keras.utils.set_random_seed(0)
    return kzoo.build_method(
        "time_contrastive", tiny_backbone((32, 32, 3)), data=VIDEOS.source(32, 3), **SMALL, **options
    )


@pytest.fixture(scope="module")
def method():
    return build()


class TestMasks:
    def test_of_100_frames_at_radius_6_an_inner_one_has_12_positives(self):
        positive, negative = (mask.numpy() for mask in masks(100, 6))
        assert positive[50].sum() == 12
        assert positive[0].sum() == 6
        apart = np.abs(np.arange(100)[:, None] - np.arange(100))
        np.testing.assert_array_equal(negative, apart > 12)
        between = (apart >= 7) & (apart <= 12)
        assert not (positive | negative)[between].any()
        assert not (positive | negative).diagonal().any()


class TestTriplet:
    def test_a_collapsed_network_costs_the_margin(self, method):
        batch = {"clip": tf.range(3, dtype=tf.int64)}
        logs = method.loss({"embedded": tf.ones((3, 8, 8))}, batch)
        assert float(logs["loss"]) == pytest.approx(0.2, abs=1e-6)
        assert method.chance() == {"loss": 0.2}

    @pytest.mark.parametrize("other_sequences", [False, True])
    def test_is_that_of_every_pair_by_hand(self, other_sequences):
        method = build(other_sequences=other_sequences)
        rows = np.random.default_rng(0).normal(size=(3, 8, 4))
        clip = np.array([4, 9, 4])
        unit = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
        costs = []
        for b in range(3):
            for a in range(8):
                negatives = [unit[b, n] for n in range(8) if abs(a - n) > 4]
                if other_sequences:
                    negatives += [unit[c, n] for c in range(3) if clip[c] != clip[b] for n in range(8)]
                far = [np.square(unit[b, a] - n).sum() for n in negatives]
                for p in range(8):
                    if 0 < abs(a - p) <= 2 and negatives:
                        own = np.square(unit[b, a] - unit[b, p]).sum()
                        farther = [d for d in far if d > own]
                        costs.append((b, max(0.0, own - (min(farther) if farther else max(far)) + 0.2)))
        by_clip = [np.mean([cost for b, cost in costs if b == one]) for one in range(3)]
        logs = method.loss({"embedded": tf.constant(rows, tf.float32)}, {"clip": tf.constant(clip)})
        assert float(logs["loss"]) == pytest.approx(np.mean(by_clip), rel=1e-5)

    def test_the_anchor_is_never_its_own_negative(self):
        """All frames equal but one pair: with itself as a negative, at distance 0, a frame would cost the margin."""
        unit = l2_normalize(tf.constant([[[1.0, 0], [1, 0], [1, 0], [-1, 0], [-1, 0], [-1, 0]]]))
        apart = distances(unit, unit)
        positive, negative = masks(6, 1)
        logs = semi_hard(apart, apart, positive, negative[None], 0.2)
        # pairs (2, 3) and (3, 2) have distance 4 and their farthest negatives, 0 to 1 and 4 to 5 away, are at 4 at most
        assert float(logs["loss"]) == pytest.approx(2 * 0.2 / 10, abs=1e-6)

    def test_frames_between_positive_and_negative_count_for_neither(self):
        rows = np.random.default_rng(0).normal(size=(1, 8, 4)).astype("float32")
        moved = rows.copy()
        moved[0, 3:5] = -moved[0, 3:5]
        positive, negative = masks(8, 2)
        first = tf.constant(np.arange(8) == 0)[:, None]
        losses = []
        for values in (rows, moved):
            unit = l2_normalize(tf.constant(values))
            apart = distances(unit, unit)
            losses.append(float(semi_hard(apart, apart, positive & first, negative[None], 0.2)["loss"]))
        assert losses[0] == losses[1]
        moved[0, 5:] = -moved[0, 5:]  # where its negatives are
        unit = l2_normalize(tf.constant(moved))
        apart = distances(unit, unit)
        assert losses[0] != float(semi_hard(apart, apart, positive & first, negative[None], 0.2)["loss"])

    def test_lengths_do_not_count(self, method):
        rows = tf.random.stateless_normal((2, 8, 8), (0, 1))
        batch = {"clip": tf.zeros(2, tf.int64)}
        one, other = (float(method.loss({"embedded": scale * rows}, batch)["loss"]) for scale in (1.0, 10.0))
        assert one == pytest.approx(other, rel=1e-4)


class TestNPairs:
    def test_a_collapsed_network_costs_log_k_and_its_lengths(self):
        method = build(loss="npairs", radius=1)
        same = tf.ones((2, 32, 8))
        logs = method.n_pairs(same, same)
        assert float(logs["loss"]) == pytest.approx(math.log(32) + 0.25 * 0.002 * 16, rel=1e-6)  # 3.4657 + ...
        assert method.chance() == {"loss": math.log(2), "accuracy": 0.5}

    def test_no_positive_is_near_another_anchor(self):
        keys = tf.range(500, dtype=tf.int64)
        anchor, positive = (one.numpy() for one in TimeContrastive.draw_pairs(keys, 30, 2))
        own = np.abs(anchor - positive)
        assert (own.min(), own.max()) == (1, 2)
        assert positive.min() >= 0
        assert positive.max() < 30
        apart = np.abs(anchor[:, :, None] - positive[:, None])
        others = apart[:, ~np.eye(anchor.shape[1], dtype=bool)]
        assert others.min() > 4
        assert len(np.unique(anchor)) > 20

    def test_only_anchors_and_their_positives_are_embedded(self):
        method, raw = build(loss="npairs", radius=1), raw_batch(VIDEOS.source(32, 3), 4)
        batch = method.transform(raw, raw["id"])
        embedded = method.forward(batch, training=False)["embedded"]
        assert embedded.shape == (4, 2 * 2, 8)
        anchor, positive = TimeContrastive.draw_pairs(fold_in(raw["id"], "pretext"), 8, 1)
        np.testing.assert_allclose(batch["time"], np.concatenate([anchor, positive], axis=1) / 10, atol=1e-6)
        expected = method.n_pairs(embedded[:, :2], embedded[:, 2:])
        np.testing.assert_array_equal(method.loss({"embedded": embedded}, batch)["loss"], expected["loss"])


def test_spatial_softmax_of_a_peak_is_its_place():
    maps = np.zeros((1, 5, 3, 2), "float32")
    maps[0, 4, 1, 0] = maps[0, 0, 2, 1] = 1.0
    np.testing.assert_allclose(SpatialSoftmax(temperature=1e-3)(maps), [[0, 1, 1, -1]], atol=1e-6)
    np.testing.assert_allclose(SpatialSoftmax()(np.zeros_like(maps)), 0, atol=1e-6)


class TestAlignment:
    def test_of_a_sequence_with_itself_is_0(self):
        rows = np.random.default_rng(0).normal(size=(20, 4))
        assert alignment(rows, rows) == (0.0, 1.0)

    def test_of_one_shifted_by_2_of_20_is_a_tenth(self):
        line = np.arange(20.0)[:, None]
        error, _ = alignment(line, line - 2)
        assert error == pytest.approx((18 * 2 + 1) / 20 / 20)  # of the last two, one is right and one 1 away


def test_each_frame_has_a_view_of_its_own_and_clips_keep_their_places(method):
    raw = raw_batch(VIDEOS.source(32, 3), 4)
    still = {**raw, "video": tf.repeat(raw["video"][:, :1], 8, axis=1)}
    frames = method.transform(still, raw["id"])["frames"].numpy().reshape(4, 8, 32, 32, 3)
    assert np.abs(frames[:, 0] - frames[:, 1]).max() > 0.1
    embedded = method.forward(method.transform(raw, raw["id"]), training=False)["embedded"]
    half = {name: value[2:] for name, value in raw.items()}
    np.testing.assert_allclose(
        method.forward(method.transform(half, half["id"]), training=False)["embedded"], embedded[2:], atol=1e-4
    )


def test_clips_that_are_too_short_are_refused(method):
    raw = raw_batch(VIDEOS.source(32, 3), 2)
    with pytest.raises(OptionsError, match="clips of 5 frames are too short for a radius of 2; 6 will do"):
        method.transform({**raw, "time": raw["time"][:, :5]}, raw["id"])


def test_its_figures_are_beside_those_of_an_untrained_network(method):
    found = method.extra_metrics(VIDEOS.source(32, 3), None)
    assert set(found) == {"alignment_error", "cycle", "alignment_error_untrained", "cycle_untrained"}
    assert 0 <= found["alignment_error"] <= 0.5
