"""VICReg: its three terms by hand."""

import numpy as np
import pytest
import tensorflow as tf

from kzoo.testing import fakes


def build(**options):
    return fakes.build("vicreg", projector=(24, 8), **options)


@pytest.fixture(scope="module")
def method():
    return build()


def random(rows=64, width=8, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width))


def terms(method, z_0, z_1):
    logs = method.loss({"z_0": tf.constant(z_0), "z_1": tf.constant(z_1)}, {})
    return {name: float(value) for name, value in logs.items()}


def gradients(method, *views):
    z = [tf.Variable(view) for view in views]
    with tf.GradientTape() as tape:
        value = method.loss({"z_0": z[0], "z_1": z[1]}, {})["loss"]
    return [np.array(each) for each in tape.gradient(value, z)]


class TestLoss:
    def test_of_constant_embeddings_is_24_75(self, method):
        found = terms(method, np.full((16, 64), 3.0), np.full((16, 64), 3.0))
        assert found == pytest.approx({"loss": 24.75, "invariance": 0.0, "variance": 0.99, "covariance": 0.0})

    def test_covariances_of_gaussian_noise(self, method):
        """Of n rows two units have a covariance of variance 1 / (n - 1): 2 (d - 1) / (n - 1) in both branches.

        At the paper's width of 8192 and batch of 2048: 8.003.
        """
        found = terms(method, random(256, 512), random(256, 512, seed=1))
        assert found["covariance"] == pytest.approx(2 * 511 / 255, rel=0.02)
        assert found["invariance"] == pytest.approx(2.0, rel=0.02)
        assert 0 < found["variance"] < 0.05  # standard deviations vary by 1 / sqrt(2 n), and half lie below 1

    def test_is_the_papers_formula(self, method):
        z_0, z_1 = 0.7 * random() + 2, random(seed=1) + 0.5 * random()
        covariances = [np.cov(z.T) for z in (z_0, z_1)]  # over n - 1
        off = [(cov**2).sum() - (np.diag(cov) ** 2).sum() for cov in covariances]
        hinge = [np.maximum(0, 1 - np.sqrt(np.diag(cov) + 1e-4)).mean() for cov in covariances]
        expected = {
            "invariance": ((z_0 - z_1) ** 2).mean(),
            "variance": sum(hinge) / 2,
            "covariance": sum(off) / 8,
        }
        expected["loss"] = 25 * expected["invariance"] + 25 * expected["variance"] + expected["covariance"]
        assert terms(method, z_0, z_1) == pytest.approx(expected, rel=1e-9)

    def test_its_weights_are_options(self):
        z_0, z_1 = 0.5 * random(), 0.5 * random(seed=1)
        found = terms(build(invariance=3.0, variance=5.0, covariance=7.0), z_0, z_1)
        expected = 3 * found["invariance"] + 5 * found["variance"] + 7 * found["covariance"]
        assert found["loss"] == pytest.approx(expected, rel=1e-9)

    def test_knows_no_order_of_units_and_no_shift_but_the_scale(self, method):
        z_0, z_1, order = random(), random(seed=1), np.random.default_rng(2).permutation(8)
        value = terms(method, z_0, z_1)
        assert terms(method, z_0[:, order], z_1[:, order]) == pytest.approx(value, rel=1e-9)
        assert terms(method, z_0 + 5, z_1 + 5) == pytest.approx(value, rel=1e-9)
        assert terms(method, z_0, z_0)["invariance"] == 0.0
        assert terms(method, 3 * z_0, 3 * z_1)["covariance"] == pytest.approx(81 * value["covariance"])

    def test_the_invariance_pulls_each_view_to_the_other(self):
        z_0, z_1 = 0.5 * random(), 0.5 * random(seed=1)
        one, other = gradients(build(variance=0.0, covariance=0.0), z_0, z_1)
        np.testing.assert_allclose(one, 25 * 2 * (z_0 - z_1) / z_0.size, atol=1e-12)
        np.testing.assert_allclose(one, -other, atol=1e-12)

    def test_each_view_is_spread_by_itself(self):
        """Without the invariance, the gradient of one view does not know the other."""
        z_0, z_1 = 0.5 * random(), 0.5 * random(seed=1)
        first, second = gradients(build(invariance=0.0), z_0, z_1)
        again, _ = gradients(build(invariance=0.0), z_0, 2 * z_1)
        np.testing.assert_allclose(first, again, atol=1e-12)
        assert np.abs(first).max() > 1e-4 < np.abs(second).max()

    def test_is_not_the_mean_over_halves_of_the_batch(self, method):
        """Statistics of a part are others: a replica that takes its own is seen."""
        z_0, z_1 = random(), random(seed=1)
        halves = [terms(method, z_0[half], z_1[half])["loss"] for half in (slice(32), slice(32, None))]
        assert abs(np.mean(halves) - terms(method, z_0, z_1)["loss"]) > 0.1


def test_the_picture_shows_the_covariances(method):
    images = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3)).astype("uint8")
    ids = tf.range(32, dtype=tf.int64)
    batch = method.transform({"image": tf.constant(images), "id": ids}, ids)
    covariances = np.abs(np.cov(method.forward(batch, training=False)["z_0"].numpy().T))
    shown = method.visualise({}, batch)["moments, 8 units"][0, :, :, 0]
    np.testing.assert_allclose(shown, covariances / covariances.max(), atol=1e-4)
