"""Barlow Twins: its loss by hand, what leaves it as it is, and the rates of weights and biases."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.testing import fakes

LAMBDA = 0.0051


def build():
    return fakes.build("barlow_twins", projector=(24, 8))


@pytest.fixture(scope="module")
def method():
    return build()


def random(rows=64, width=8, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width))


def loss(method, z_0, z_1):
    return float(method.loss({"z_0": tf.constant(z_0), "z_1": tf.constant(z_1)}, {})["loss"])


class TestLoss:
    def test_of_constant_embeddings_is_their_width(self, method):
        assert loss(method, np.full((16, 2048), 3.0), np.full((16, 2048), -1.0)) == pytest.approx(2048)

    def test_of_units_that_all_say_the_same_is_lambda_d_d_minus_1(self, method):
        """At the paper's width of 8192: 342,213."""
        same = np.repeat(random(width=1), 2048, axis=1)
        assert loss(method, same, same) == pytest.approx(LAMBDA * 2048 * 2047, rel=1e-4)

    def test_is_the_papers_formula(self, method):
        z_0, z_1 = random() * 3 + 1, random(seed=1) + 0.5 * random()
        correlation = np.corrcoef(z_0.T, z_1.T)[:8, 8:]
        on = np.diag(correlation)
        expected = ((1 - on) ** 2).sum() + LAMBDA * ((correlation**2).sum() - (on**2).sum())
        assert loss(method, z_0, z_1) == pytest.approx(expected, rel=1e-4)

    def test_equal_views_correlate_fully(self, method):
        z = tf.constant(random())
        np.testing.assert_allclose(np.diag(method.matrix({"z_0": z, "z_1": z})), 1.0, atol=1e-4)

    def test_takes_both_views_alike_and_no_notice_of_scale_and_shift(self, method):
        z_0, z_1 = random(), random(seed=1)
        value = loss(method, z_0, z_1)
        assert loss(method, z_1, z_0) == pytest.approx(value, rel=1e-9)
        scale, shift = np.random.default_rng(2).uniform(5, 50, 8), random(rows=1)
        assert loss(method, scale * z_0 + shift, z_1) == pytest.approx(value, rel=1e-4)

    def test_is_not_the_mean_over_halves_of_the_batch(self, method):
        """Statistics of a part are others: a replica that takes its own is seen."""
        z_0, z_1 = random(), random(seed=1)
        halves = [loss(method, z_0[half], z_1[half]) for half in (slice(32), slice(32, None))]
        assert abs(np.mean(halves) - loss(method, z_0, z_1)) > 0.01

    def test_gradients_reach_both_views_and_go_through_the_statistics(self, method):
        """Along any direction the gradient is the slope of the loss; along a unit's own scale it is nearly 0."""
        given, step = [random(), random(seed=1)], 1e-6
        z = [tf.Variable(each) for each in given]
        with tf.GradientTape() as tape:
            value = method.loss({"z_0": z[0], "z_1": z[1]}, {})["loss"]
        gradients = [np.array(each) for each in tape.gradient(value, z)]
        for view in range(2):
            direction = random(seed=2 + view)
            up, down = [*given], [*given]
            up[view], down[view] = given[view] + step * direction, given[view] - step * direction
            slope = (loss(method, *up) - loss(method, *down)) / (2 * step)
            assert (gradients[view] * direction).sum() == pytest.approx(slope, rel=1e-5)
            along = (gradients[view] * (given[view] - given[view].mean(axis=0))).sum(axis=0)
            assert np.abs(along).max() < 1e-4 * np.abs(gradients[view]).sum()


class TestHeads:
    def test_hidden_layers_are_normalised_and_no_dense_layer_has_a_bias(self, method):
        kinds = [type(layer).__name__ for layer in method.projector.layers]
        assert kinds == ["Dense", "BatchNormalization", "ReLU", "Dense"]
        assert not any(layer.use_bias for layer in method.projector.layers if isinstance(layer, keras.layers.Dense))

    def test_biases_learn_at_the_papers_0_0048_beside_0_2(self):
        method = build()
        method.compile(keras.optimizers.SGD(0.2))
        rates = {name: float(optimizer.learning_rate) for name, optimizer in method.optimizers.items()}
        assert rates == pytest.approx({"weights": 0.2, "biases": 0.0048})
        groups = method.optimizer_groups()
        assert {len(variable.shape) for variable in groups["biases"].variables} == {1}
        assert {len(variable.shape) for variable in groups["weights"].variables} == {2, 4}


def test_the_picture_shows_the_matrix_beside_six_pairs(method):
    ids = tf.range(32, dtype=tf.int64)
    images = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3)).astype("uint8")
    batch = method.transform({"image": tf.constant(images), "id": ids}, ids)
    shown = method.visualise({}, batch)
    assert [value.shape for value in shown.values()] == [(6, 16, 16, 3), (6, 16, 16, 3), (1, 8, 8, 1)]
    matrix = np.abs(method.matrix(method.forward(batch, training=False)))
    np.testing.assert_allclose(shown["moments, 8 units"][0, :, :, 0], matrix / matrix.max(), atol=1e-5)
