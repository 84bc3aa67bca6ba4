"""BYOL: its loss from cosines, the target that follows after the step, and what has a gradient."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.errors import OptionsError
from kzoo.testing import fakes

BATCH = 8


def build(**options):
    settings = {"projector": (32, 16), "predictor": (32, 16), **options}
    return fakes.build("byol", learning_rate=0.1, total_steps=100, **settings)


def batch_of(method):
    return fakes.batch_of(method, fakes.images(BATCH, cell=4))


@pytest.fixture(scope="module")
def method():
    return build()


def rows(*units):
    return tf.one_hot(units, 16)


class TestLoss:
    @pytest.mark.parametrize(
        ("said", "expected"),
        [(rows(0, 1), 0.0), (rows(2, 3), 4.0), (-5.0 * rows(0, 1), 8.0), (rows(0, 1) + rows(2, 3), 4 - 4 * 0.5**0.5)],
        ids=["the target", "at right angles", "opposite, whatever the length", "at 45 degrees"],
    )
    def test_is_the_squared_distance_of_unit_vectors_in_both_directions(self, method, said, expected):
        outputs = {"p_0": said, "p_1": said, "z_0": said}
        target = rows(0, 1)
        found = method.loss(outputs, {"target_0": target, "target_1": target})["loss"]
        assert float(found) == pytest.approx(expected, abs=1e-5)

    def test_each_view_is_compared_with_the_target_of_the_other(self, method):
        outputs = {"p_0": rows(0, 1), "p_1": rows(2, 3), "z_0": rows(0, 1)}
        crossed = method.loss(outputs, {"target_0": rows(2, 3), "target_1": rows(0, 1)})["loss"]
        own = method.loss(outputs, {"target_0": rows(0, 1), "target_1": rows(2, 3)})["loss"]
        assert (float(crossed), float(own)) == pytest.approx((0.0, 4.0), abs=1e-5)

    def test_spread_is_1_for_all_directions_and_0_for_one(self, method):
        def spread(z):
            batch = {"target_0": z, "target_1": z}
            return float(method.loss({"p_0": z, "p_1": z, "z_0": z}, batch)["spread"])

        every = tf.concat([tf.eye(16), -tf.eye(16)], axis=0)
        assert spread(every) == pytest.approx(1.0, abs=1e-5)
        assert spread(tf.ones((8, 16))) == pytest.approx(0.0, abs=1e-5)


class TestTarget:
    def test_it_follows_after_the_step_towards_the_new_weights(self):
        method = build(momentum=0.9)
        before = [np.array(ours) for ours, _ in method.target.pairs]
        method.train_step(batch_of(method))
        moved = 0.0
        for was, (ours, theirs) in zip(before, method.target.pairs, strict=True):
            np.testing.assert_allclose(ours, 0.9 * was + 0.1 * np.array(theirs), atol=1e-6)
            moved = max(moved, np.abs(ours - was).max())
        assert moved > 0

    def test_its_first_momentum_is_where_the_schedule_starts_and_the_last_is_1(self):
        method = build(momentum={"schedule": "cosine", "start": 0.5, "end": 1.0})
        method.compile(keras.optimizers.SGD(0.1), total_steps=2)
        shares = []
        for _ in range(3):
            before = [np.array(ours) for ours, _ in method.target.pairs]
            method.train_step(batch_of(method))
            ours, theirs = (np.concatenate([np.ravel(pair[i]) for pair in method.target.pairs]) for i in (0, 1))
            was = np.concatenate([value.ravel() for value in before])
            shares.append(float(np.dot(ours - was, theirs - was) / np.dot(theirs - was, theirs - was)))
        np.testing.assert_allclose(shares, [0.5, 0.25, 0.0], atol=1e-3)

    def test_the_schedule_is_the_papers(self, method):
        found = []
        for step in (0, 25, 100):
            method.optimizer.iterations.assign(step)
            found.append(float(method.value(method.options.momentum)))
        method.optimizer.iterations.assign(0)
        assert found == pytest.approx([0.99, 1 - 0.01 * (math.cos(math.pi / 4) + 1) / 2, 1.0], abs=1e-6)

    def test_at_momentum_1_it_stays(self):
        method = build(momentum=1.0)
        before = [np.array(ours) for ours, _ in method.target.pairs]
        method.train_step(batch_of(method))
        for was, (ours, _) in zip(before, method.target.pairs, strict=True):
            np.testing.assert_array_equal(ours, was)
        assert any(not np.array_equal(ours, theirs) for ours, theirs in method.target.pairs)

    def test_it_normalises_by_the_statistics_of_its_batch(self, method):
        batch = batch_of(method)
        trained, at_rest = (method.targets(batch, training=training)["target_0"] for training in (True, False))
        assert np.abs(trained - at_rest).max() > 0.01

    def test_it_has_no_predictor(self, method):
        assert len(method.target.pairs) == len(method.backbone.trainable_variables) + len(
            method.projector.trainable_variables
        )


def test_gradients_reach_the_network_and_its_heads_alone():
    method = build()
    batch = batch_of(method)
    targets = [ours for ours, _ in method.target.pairs]
    network = [
        *method.backbone.trainable_variables,
        *method.projector.trainable_variables,
        *method.predictor.trainable_variables,
    ]
    with tf.GradientTape() as tape:
        tape.watch([variable.value for variable in targets])
        ready = {**batch, **method.targets(batch, training=True)}
        loss = method.loss(method.forward(ready, training=True), ready)["loss"]
    found = tape.gradient(loss, [variable.value for variable in (*targets, *network)])
    assert found[: len(targets)] == [None] * len(targets)
    assert all(gradient is not None for gradient in found[len(targets) :])


def test_heads_must_end_alike():
    with pytest.raises(OptionsError, match="must end as wide as the projector, 16"):
        build(predictor=(32, 8))
