"""SimSiam: its loss from cosines, the answer that is held still, the predictor's constant rate."""

import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers import BatchNormalization
from kzoo.optimizers import SGD, WarmUp
from kzoo.testing import fakes

BATCH = 8


def build(**options):
    settings = {"projector": (32, 16), "bottleneck": 8, **options}
    return fakes.build("simsiam", learning_rate=0.1, total_steps=100, **settings)


def batch_of(method):
    return fakes.batch_of(method, fakes.images(BATCH, cell=4))


@pytest.fixture(scope="module")
def method():
    return build()


def outputs(p_0, p_1, z_0, z_1):
    return {"p_0": p_0, "p_1": p_1, "z_0": z_0, "z_1": z_1}


class TestLoss:
    @pytest.mark.parametrize(("factor", "expected"), [(3.0, -1.0), (-2.0, 1.0)])
    def test_is_1_less_where_all_is_foretold(self, method, factor, expected):
        z = tf.constant(np.random.default_rng(0).normal(size=(BATCH, 16)), tf.float32)
        assert float(method.loss(outputs(factor * z, factor * z, z, z), {})["loss"]) == pytest.approx(expected)

    def test_each_view_foretells_the_other(self, method):
        a, b = tf.one_hot([0, 1], 16), tf.one_hot([2, 3], 16)
        assert float(method.loss(outputs(b, a, a, b), {})["loss"]) == pytest.approx(-1.0)
        assert float(method.loss(outputs(a, b, a, b), {})["loss"]) == pytest.approx(0.0)
        assert float(method.loss(outputs(b, b, a, b), {})["loss"]) == pytest.approx(-0.5)

    def test_the_answer_has_no_gradient_and_the_prediction_has(self, method):
        p, z = (tf.constant(np.random.default_rng(i).normal(size=(BATCH, 16)), tf.float32) for i in range(2))
        with tf.GradientTape() as tape:
            tape.watch([p, z])
            loss = method.loss(outputs(p, p, z, z), {})["loss"]
        by_prediction, by_answer = tape.gradient(loss, [p, z])
        assert by_answer is None
        assert np.abs(by_prediction).max() > 0

    def test_the_network_learns_through_the_predictor_alone(self, method):
        """With the predictor's weights at 0, p is constant: the backbone gets no gradient, though z varies."""
        batch = batch_of(method)
        kernel = method.predictor.layers[0].kernel
        kept = np.array(kernel)
        kernel.assign(0.0 * kernel)
        with tf.GradientTape() as tape:
            loss = method.loss(method.forward(batch, training=True), batch)["loss"]
        gradients = tape.gradient(loss, method.backbone.trainable_variables)
        kernel.assign(kept)
        assert max(0.0 if g is None else np.abs(g).max() for g in gradients) < 1e-6

    def test_spread_of_a_healthy_projection_is_near_1(self, method):
        z = tf.constant(np.random.default_rng(0).normal(size=(4096, 16)), tf.float32)
        assert float(method.loss(outputs(z, z, z, z), {})["spread"]) == pytest.approx(0.9993, abs=0.01)


class TestHeads:
    def test_the_projector_ends_normalised_without_scale_and_shift(self, method):
        last = method.projector.layers[-1]
        assert isinstance(last, BatchNormalization)
        assert not last.scale
        assert not last.center

    def test_the_predictor_is_a_bottleneck_with_a_bias_at_its_end(self, method):
        dense, norm, _, last = method.predictor.layers
        assert (dense.units, last.units) == (8, 16)
        assert isinstance(norm, BatchNormalization)
        assert last.use_bias


def test_the_predictor_keeps_its_rate_while_that_of_the_rest_falls():
    method = build()
    method.compile(SGD(WarmUp(peak=0.2, warmup=0, steps=100)))
    for optimizer in method.optimizers.values():
        optimizer.iterations.assign(100)
    assert float(method.optimizers["main"].learning_rate) == pytest.approx(0.0, abs=1e-7)
    assert float(method.optimizers["predictor"].learning_rate) == pytest.approx(0.2)
    owned = {variable.path for variable in method.optimizer_groups()["predictor"].variables}
    assert owned == {variable.path for variable in method.predictor.trainable_variables}
