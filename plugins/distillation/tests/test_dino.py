"""DINO: its loss by hand, the teacher and its centre, and what collapses without them."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.schedules import Cosine, Linear
from kzoo.testing import fakes
from kzoo.testing.tiny import tiny_backbone

BATCH, PROTOTYPES, LOCAL = 4, 12, 3


def images(count=BATCH, size=32):
    return fakes.images(count, size)


def build(learning_rate=0.1, **options):
    keras.utils.set_random_seed(0)
    settings = {"head": (16, 8), "prototypes": PROTOTYPES, "local_views": LOCAL, "local_size": 16, **options}
    method = kzoo.build_method("dino", tiny_backbone((None, None, 3)), **settings)
    method.compile(keras.optimizers.SGD(learning_rate), total_steps=8, steps_per_epoch=4)
    return method


def batch_of(method, pictures=None):
    return fakes.batch_of(method, images() if pictures is None else pictures)


@pytest.fixture
def method():
    return build()


def log_softmax(x):
    x = x.astype("float64")
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


class TestLoss:
    def test_uniform_student_is_log_k(self, method):
        """DINO's own 65,536 prototypes: 11.0904."""
        rng = np.random.default_rng(0)
        outputs = {"large": tf.zeros((2 * BATCH, PROTOTYPES)), "small": tf.zeros((LOCAL * BATCH, PROTOTYPES))}
        taught = tf.constant(rng.normal(size=(2 * BATCH, PROTOTYPES)), tf.float32)
        found = method.loss(outputs, {"taught": taught})
        assert float(found["loss"]) == pytest.approx(math.log(PROTOTYPES), rel=1e-6)
        assert math.log(65536) == pytest.approx(11.0904, abs=1e-4)

    def test_is_the_papers_mean_over_pairs_of_different_views(self, method):
        rng = np.random.default_rng(1)
        large, taught = rng.normal(size=(2, BATCH, 2, PROTOTYPES)).astype("float32")
        small = rng.normal(size=(BATCH, LOCAL, PROTOTYPES)).astype("float32")
        centre = rng.normal(size=PROTOTYPES).astype("float32")
        method.centre.value.assign(centre)
        target = np.exp(log_softmax((taught - centre) / 0.04))
        said = log_softmax(np.concatenate([large, small], axis=1) / 0.1)
        pairs = [(t, s) for t in range(2) for s in range(2 + LOCAL) if t != s]
        expected = np.mean([-(target[:, t] * said[:, s]).sum(-1).mean() for t, s in pairs])
        outputs = {"large": tf.reshape(large, [-1, PROTOTYPES]), "small": tf.reshape(small, [-1, PROTOTYPES])}
        found = method.loss(outputs, {"taught": tf.reshape(taught, [-1, PROTOTYPES])})
        assert len(pairs) == 2 + 2 * LOCAL
        assert float(found["loss"]) == pytest.approx(expected, rel=1e-4)
        entropy = -(target * np.log(target + 1e-30)).sum(-1).mean()
        assert float(found["entropy"]) == pytest.approx(entropy, rel=1e-3)

    def test_without_small_views_it_is_that_of_the_two_large_ones(self):
        method = build(local_views=0)
        batch = batch_of(method)
        assert "small" not in batch
        loss = float(method.test_step(batch)["loss"])
        assert 0 < loss < 3 * math.log(PROTOTYPES)

    def test_before_training_it_is_near_log_k(self):
        """Cosines of independent unit vectors in 64 dimensions over 0.1: variance 100 / 64, so log K + 0.78."""
        method = build(head=(64,), prototypes=4096)
        rng = np.random.default_rng(0)
        unit = tf.math.l2_normalize(tf.constant(rng.normal(size=(10 * BATCH, 64)), tf.float32), axis=1)
        logits = method.head.layers[-1](unit)
        outputs = {"large": logits[: 2 * BATCH], "small": logits[2 * BATCH : (2 + LOCAL) * BATCH]}
        taught = method.head.layers[-1](
            tf.math.l2_normalize(tf.constant(rng.normal(size=(2 * BATCH, 64)), tf.float32), axis=1)
        )
        loss = float(method.loss(outputs, {"taught": taught})["loss"])
        assert loss == pytest.approx(math.log(4096) + 0.5 * 100 / 64, abs=0.25)


class TestViews:
    def test_those_of_an_example_are_neighbours_and_large_ones_differ_from_small(self, method):
        batch = batch_of(method)
        assert batch["large"].shape == (2 * BATCH, 32, 32, 3)
        assert batch["small"].shape == (LOCAL * BATCH, 16, 16, 3)
        alone = batch_of(method, images()[:1])
        np.testing.assert_allclose(alone["large"], batch["large"][:2], atol=1e-6)
        np.testing.assert_allclose(alone["small"], batch["small"][:LOCAL], atol=1e-6)
        assert np.abs(batch["large"][0] - batch["large"][1]).max() > 0.05

    def test_the_small_size_is_three_sevenths(self):
        method = build(local_size=None, size=224)
        assert method.pretext({"image": tf.zeros((1, 32, 32, 3), tf.uint8)}, tf.zeros(1, tf.int64), method.options)[
            "small"
        ].shape == (LOCAL, 96, 96, 3)


class TestTeacher:
    def test_the_centre_follows_what_the_teacher_said_after_it_was_used(self, method):
        batch = batch_of(method)
        taught = method.teacher(batch["large"], training=True)
        method.train_step(batch)
        np.testing.assert_allclose(method.centre.read(), 0.1 * tf.reduce_mean(taught, axis=0), atol=1e-6)

    def test_it_follows_the_student_after_the_step(self):
        method = build(momentum=0.9)
        before = [np.array(ours) for ours, _ in method.teacher.pairs]
        method.train_step(batch_of(method))
        for was, (ours, theirs) in zip(before, method.teacher.pairs, strict=True):
            np.testing.assert_allclose(ours, 0.9 * was + 0.1 * np.array(theirs), atol=1e-6)

    def test_it_goes_downstream(self, method):
        pictures = images()
        for ours, _ in method.teacher.pairs:
            ours.assign(1.5 * ours)
        expected = method.teacher.models[0](tf.constant(pictures, tf.float32) / 255.0)["embedding"]
        np.testing.assert_allclose(method(pictures), expected, atol=1e-5)
        assert np.abs(method(pictures) - method.embed(pictures / 255.0, training=False)).max() > 1e-3

    def test_its_first_momentum_is_where_the_schedule_starts(self):
        method = build(momentum={"schedule": "steps", "start": 1.0, "epochs": [0.25], "factor": 0.5})
        before = [np.array(ours) for ours, _ in method.teacher.pairs]
        method.train_step(batch_of(method))
        for was, (ours, _) in zip(before, method.teacher.pairs, strict=True):
            np.testing.assert_array_equal(ours, was)
        method.train_step(batch_of(method))
        assert any(not np.array_equal(was, ours) for was, (ours, _) in zip(before, method.teacher.pairs, strict=True))

    def test_its_momentum_rises_to_one_and_its_temperature_may_warm_up(self):
        method = build(teacher_temperature={"schedule": "linear", "start": 0.04, "end": 0.07, "epochs": 1})
        assert method.options.momentum == Cosine(start=0.996, end=1.0)
        assert method.options.teacher_temperature == Linear(start=0.04, end=0.07, epochs=1)
        found = []
        for step in (0, 2, 4, 8):
            method.optimizer.iterations.assign(step)
            found.append([float(method.value(getattr(method.options, f))) for f in ("momentum", "teacher_temperature")])
        np.testing.assert_allclose(
            found, [[0.996, 0.04], [1 - 0.004 * 0.853553, 0.055], [0.998, 0.07], [1, 0.07]], atol=1e-5
        )

    def test_the_prototypes_stay_for_the_first_epoch_and_keep_unit_norm(self, method):
        kernel = method.head.layers[-1].kernel
        began = np.array(kernel)
        batch = batch_of(method)
        for _ in range(4):
            np.testing.assert_array_equal(kernel, began)
            method.train_step(batch)
        np.testing.assert_array_equal(kernel, began)
        method.train_step(batch)
        assert np.abs(np.array(kernel) - began).max() > 0
        cosines = method.head.layers[-1](tf.constant(np.array(kernel).T))
        np.testing.assert_allclose(np.diag(cosines), 1.0, atol=1e-5)


def test_what_is_asked_of_views_is_checked():
    with pytest.raises(kzoo.OptionsError, match="local_size: 64 is more than size, 32"):
        build(size=32, local_size=64)
