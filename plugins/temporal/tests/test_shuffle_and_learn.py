"""Shuffle and Learn: which frames are asked about, that the middle one alone decides, and what guessing is worth."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_temporal.examples import VIDEOS
from kzoo_temporal.modalities import VIDEO
from kzoo_temporal.options import ShuffleAndLearnOptions
from kzoo_temporal.parts.frames import motion
from kzoo_temporal.shuffle_and_learn import ShuffleAndLearn

import kzoo
from kzoo.errors import OptionsError
from kzoo.testing.examples import raw_batch
from kzoo.testing.tiny import tiny_backbone

OPTIONS = ShuffleAndLearnOptions(tau_min=3, tau_max=6)
LENGTH = 16


@pytest.fixture(scope="module")
def method():
    keras.utils.set_random_seed(0)
    return kzoo.build_method("shuffle_and_learn", tiny_backbone((32, 32, 3)), tau_min=2, tau_max=4, hidden=[32])


def drawn(moved, options=OPTIONS, count=4000):
    keys = tf.range(count, dtype=tf.int64)
    known = {"motion": tf.repeat(tf.constant([moved], tf.float32), count, axis=0)}
    asked = ShuffleAndLearn.choose(known, keys, options)
    return asked["frame"].numpy(), asked["ordered"].numpy().astype(bool)


def part(raw, options):
    asked = ShuffleAndLearn.choose(raw, raw["id"], options)
    return {**VIDEO.take(raw, asked), **asked}


class TestTuples:
    def test_a_quarter_is_in_order(self):
        _, ordered = drawn(np.ones(LENGTH - 1))
        assert ordered.mean() == pytest.approx(0.25, abs=0.03)  # deviation 0.007

    def test_the_middle_frame_alone_decides(self):
        """It lies between the ends where they are in order, else at least tau_min outside of them."""
        numbers, ordered = drawn(np.ones(LENGTH - 1))
        low, high = numbers[:, [0, 2]].min(axis=1), numbers[:, [0, 2]].max(axis=1)
        middle = numbers[:, 1]
        inside = (low < middle) & (middle < high)
        np.testing.assert_array_equal(inside, ordered)
        outside = np.maximum(low - middle, middle - high)[~ordered]
        assert outside.min() == 3
        assert ((high - low).min(), (high - low).max()) == (2, 6)
        assert (middle[~ordered] < low[~ordered]).mean() == pytest.approx(0.5, abs=0.05)

    def test_either_comes_backwards_half_of_the_time(self):
        numbers, ordered = drawn(np.ones(LENGTH - 1))
        for some in (ordered, ~ordered):
            assert (numbers[some, 0] > numbers[some, 2]).mean() == pytest.approx(0.5, abs=0.06)

    def test_windows_where_more_moves_are_drawn_more_often(self):
        moved = np.where(np.arange(LENGTH - 1) >= 9, 1.0, 0.1)

        def mean_motion(numbers):
            ends = np.sort(numbers[:, [0, 2]], axis=1)
            return np.mean([moved[b:d].mean() for b, d in ends])

        assert mean_motion(drawn(moved)[0]) > 1.3 * mean_motion(drawn(np.ones(LENGTH - 1))[0])

    def test_of_two_windows_the_odds_are_those_of_their_motion(self):
        options = ShuffleAndLearnOptions(tau_min=1, tau_max=2)
        numbers, _ = drawn([0.0, 1.0, 1.0, 5.0, 0.0], options)  # windows (1, 3) of motion 1 and (2, 4) of 3
        assert (np.minimum(numbers[:, 0], numbers[:, 2]) == 2).mean() == pytest.approx(0.75, abs=0.03)

    def test_clips_that_are_too_short_are_refused(self):
        with pytest.raises(OptionsError, match="clips of 8 frames; tau_min 3 needs at least 9"):
            drawn(np.ones(7))


class TestMotion:
    def video(self, speed):
        wave = 127 + 100 * np.sin(2 * np.pi * (np.arange(32) - speed * np.arange(4)[:, None]) / 16)
        return np.repeat(np.repeat(wave[None, :, None, :, None], 32, axis=2), 3, axis=4).astype("uint8")

    def test_it_is_the_speed_of_a_wave_in_pixels(self):
        for speed in (0.5, 1.0, 1.5):
            np.testing.assert_allclose(motion(self.video(speed)), speed, rtol=0.1)

    def test_still_frames_do_not_move(self):
        np.testing.assert_array_equal(motion(self.video(0)), 0)


class TestLoss:
    def test_who_always_says_no_is_right_three_times_in_four_and_the_prior_costs_5623(self, method):
        ordered = tf.constant([1, 0, 0, 0])
        prior = tf.math.log(tf.constant([[0.75, 0.25]] * 4))
        logs = method.loss({"logits": prior}, {"ordered": ordered})
        assert float(logs["loss"]) == pytest.approx(0.5623, abs=1e-4)
        assert float(logs["accuracy"]) == 0.75
        assert method.chance() == {"loss": pytest.approx(0.5623, abs=1e-4), "accuracy": 0.75}

    def test_three_times_the_same_frame_says_nothing_of_the_class(self, method):
        """As it is where a, e and c are one: what differs between the classes is only the middle frame."""
        frame = tf.repeat(tf.random.stateless_uniform((4, 32, 32, 3), (0, 1)), 3, axis=0)
        answers = method.forward({"frames": frame}, training=False)["logits"]
        other = method.forward({"frames": tf.identity(frame), "ordered": tf.ones(4, tf.int32)}, training=False)
        np.testing.assert_array_equal(answers, other["logits"])

    def test_without_distance_outside_the_window_both_classes_are_alike(self, method):
        """a = e = c: then the best answer is the prior's."""
        raw = raw_batch(VIDEOS.source(32, 3), 32)
        batch = method.transform(raw, raw["id"])
        still = tf.repeat(raw["video"][:, :1], 8, axis=1)
        alike = method.transform({**raw, "video": still}, raw["id"])
        frames = alike["frames"].numpy().reshape(32, 3, 32, 32, 3)
        np.testing.assert_array_equal(frames[:, 0], frames[:, 1])
        np.testing.assert_array_equal(alike["ordered"].shape, batch["ordered"].shape)

    def test_the_three_frames_have_one_crop_and_one_flip(self, method):
        raw = raw_batch(VIDEOS.source(32, 3), 8)
        still = {**raw, "video": tf.repeat(raw["video"][:, :1], 8, axis=1)}
        frames = method.transform(still, raw["id"])["frames"].numpy()
        for other in (1, 2):
            np.testing.assert_array_equal(frames[::3], frames[other::3])
        assert np.abs(frames[::3] - still["video"][:, 0].numpy() / 255).max() > 0.1

    def test_mirrored_tuples_keep_their_label(self):
        raw = raw_batch(VIDEOS.source(32, 3), 16)
        options = ShuffleAndLearnOptions(tau_min=2, tau_max=4, flip=1.0, scale=(1.0, 1.0))
        plain = ShuffleAndLearnOptions(tau_min=2, tau_max=4, flip=0.0, scale=(1.0, 1.0))
        one, other = (ShuffleAndLearn.pretext(part(raw, some), raw["id"], some) for some in (options, plain))
        np.testing.assert_array_equal(one["ordered"], other["ordered"])
        np.testing.assert_allclose(one["frames"], other["frames"][:, :, ::-1], atol=1e-6)

    def test_the_head_gets_each_tuple_s_own_frames_in_their_order_less_their_mean(self, method):
        frames = tf.random.stateless_uniform((6, 32, 32, 3), (0, 1))
        embedded = [method.embed(frames[i : i + 1], training=False)[0].numpy() for i in range(6)]
        apart = [np.concatenate(three - np.mean(three, axis=0)) for three in (np.stack(embedded[:3]), embedded[3:])]
        expected = method.head(np.stack(apart), training=False)
        found = method.forward({"frames": frames}, training=False)["logits"]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_order_can_be_learned_and_is_measured_against_the_prior(method):
    """Each example's texture moves right and gets brighter: the order can be seen."""
    source = VIDEOS.source(32, 3)
    keras.utils.set_random_seed(0)
    method = kzoo.build_method("shuffle_and_learn", tiny_backbone((32, 32, 3)), tau_min=2, tau_max=4, hidden=[64])
    method.compile(keras.optimizers.Adam(3e-3), total_steps=150)
    step = tf.function(method.train_step, autograph=False)
    raw = raw_batch(source, 32)
    before = method.extra_metrics(source, None)
    for number in range(150):
        step(method.transform(raw, raw["id"] + 1000 * number))
    after = method.extra_metrics(source, None)
    assert before["order_prior"] == after["order_prior"] == pytest.approx(0.75, abs=0.03)
    assert before["order_auc"] == pytest.approx(0.5, abs=0.15)
    assert after["order_auc"] > 0.9
    assert after["order_accuracy"] > 0.85
