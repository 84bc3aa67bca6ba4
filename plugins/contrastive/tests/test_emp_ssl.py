"""EMP-SSL: coding rates by hand, the patches, and the bag that represents an image."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_contrastive.emp_ssl import coding_rate

from kzoo.data import array_source
from kzoo.testing import fakes

PLAIN = {"flip": 0.0, "jitter_p": 0.0, "greyscale_p": 0.0, "blur_p": 0.0, "solarize_p": 0.0}


def build(**options):
    return fakes.build("emp_ssl", **{"patches": 3, "projector": (24, 24, 16), "bag": 4, **options})


def images(count=8):
    return fakes.images(count, cell=4)


@pytest.fixture(scope="module")
def method():
    return build()


class TestCodingRate:
    def test_of_equal_rows(self):
        same = tf.tile(tf.one_hot([0], 1024), [100, 1])
        assert float(coding_rate(same, 0.2)) == pytest.approx(math.log(1 + 1024 / 0.2) / 2, abs=1e-3)
        assert float(coding_rate(same, 0.2)) == pytest.approx(4.2706, abs=1e-3)

    def test_of_orthonormal_rows_is_the_upper_bound(self):
        assert float(coding_rate(tf.eye(100, 1024), 0.2)) == pytest.approx(197.754, abs=1e-2)

    def test_is_one_value_whichever_gram_matrix_is_smaller(self):
        rows = np.random.default_rng(0).normal(size=(12, 5))
        expected = np.linalg.slogdet(np.eye(5) + 5 / (12 * 0.2) * rows.T @ rows)[1] / 2
        assert float(coding_rate(tf.constant(rows), 0.2)) == pytest.approx(expected, rel=1e-9)
        expected = np.linalg.slogdet(np.eye(12) + 12 / (5 * 0.2) * rows @ rows.T)[1] / 2
        assert float(coding_rate(tf.constant(rows.T.copy()), 0.2)) == pytest.approx(expected, rel=1e-9)

    def test_is_taken_of_each_matrix(self):
        stack = np.random.default_rng(0).normal(size=(3, 4, 6))
        np.testing.assert_allclose(
            coding_rate(tf.constant(stack), 0.2), [coding_rate(tf.constant(m), 0.2) for m in stack]
        )


class TestLoss:
    def test_perfect_codes_reach_the_lower_bound(self):
        method = build(patches=2, projector=(8, 1024))
        codes = tf.repeat(tf.eye(100, 1024)[:, None], 2, axis=1)
        logs = method.loss({"codes": codes}, {})
        assert float(logs["loss"]) == pytest.approx(-200 - 197.754, abs=1e-2)
        assert float(logs["similarity"]) == pytest.approx(1.0, abs=1e-5)

    def test_collapse_is_seen_in_the_coding_rate(self):
        method = build(patches=2, projector=(8, 1024))
        codes = tf.tile(tf.one_hot([0], 1024)[:, None], [100, 2, 1])
        logs = method.loss({"codes": codes}, {})
        assert float(logs["coding_rate"]) == pytest.approx(4.2706, abs=1e-3)
        assert float(logs["similarity"]) == pytest.approx(1.0, abs=1e-5)

    def test_is_the_papers_formula(self, method):
        codes = np.random.default_rng(0).normal(size=(6, 3, 16))
        codes /= np.linalg.norm(codes, axis=2, keepdims=True)
        mean = codes.mean(axis=1)
        cosines = np.einsum("bnd,bd->bn", codes, mean / np.linalg.norm(mean, axis=1, keepdims=True))
        rates = [np.linalg.slogdet(np.eye(16) + 16 / (6 * 0.2) * z.T @ z)[1] / 2 for z in codes.transpose(1, 0, 2)]
        logs = method.loss({"codes": tf.constant(codes)}, {})
        assert float(logs["loss"]) == pytest.approx(-200 * cosines.mean() - np.mean(rates), rel=1e-9)

    def test_gradient_flows_through_the_mean_code(self, method):
        codes = tf.Variable(np.random.default_rng(0).normal(size=(4, 3, 16)))
        with tf.GradientTape() as tape:
            loss = method.loss({"codes": codes}, {})["loss"]
        gradient = tape.gradient(loss, codes).numpy()
        step = np.zeros(codes.shape)
        step[1, 2, 3] = 1e-5
        above, below = (float(method.loss({"codes": codes + sign * step}, {})["loss"]) for sign in (1, -1))
        assert gradient[1, 2, 3] == pytest.approx((above - below) / 2e-5, rel=1e-5)


class TestPatches:
    def test_are_squares_of_a_quarter_of_the_area_in_the_order_of_the_examples(self):
        method = build(patches=5, view=PLAIN)
        ramp = np.zeros((2, 16, 16, 3), "uint8")
        ramp[..., 0] = 10 * np.arange(16)[:, None]
        ramp[..., 1] = 10 * np.arange(16)[None]
        ramp[1, ..., 2] = 255  # marks the second example
        ready = method.pretext({"image": tf.constant(ramp)}, tf.range(2, dtype=tf.int64), method.options)["patches"]
        assert ready.shape == (10, 16, 16, 3)
        patches = ready.numpy() * 255
        np.testing.assert_allclose(patches[:5, ..., 2], 0, atol=1e-3)
        np.testing.assert_allclose(patches[5:, ..., 2], 255, atol=1e-3)
        # eight rows and eight columns of the sixteen: pixel centres half a pixel inside the first and the last
        for channel in (0, 1):
            np.testing.assert_allclose(np.ptp(patches[..., channel], axis=(1, 2)), 70, atol=1e-3)
        corners = {tuple(np.round(patch[0, 0, :2])) for patch in patches[:5]}
        assert len(corners) > 1


class TestStep:
    @pytest.fixture(scope="class")
    def trained(self):
        method = build(view=PLAIN, invariance=20.0)
        method.compile(keras.optimizers.Adam(3e-3))
        before = [np.array(v) for v in method.trainable_variables]
        history = method.fit(images(), batch_size=8, epochs=25, verbose=0).history
        return method, before, history

    def test_all_of_the_network_learns(self, trained):
        method, before, _ = trained
        for variable, old in zip(method.trainable_variables, before, strict=True):
            assert not np.array_equal(variable, old), variable.path

    def test_codes_come_together_and_do_not_collapse(self, trained):
        _, _, history = trained
        assert history["loss"][-1] < history["loss"][0]
        assert history["similarity"][-1] > 0.8
        collapsed = math.log(1 + 16 / 0.2) / 2
        assert history["coding_rate"][-1] > 2 * collapsed


class TestBag:
    def test_is_the_mean_of_the_first_layers_of_the_projector(self, method, monkeypatch):
        """The probes, replaced here, are given the mean over the patches of Dense, batch normalisation and ReLU."""
        given = []
        monkeypatch.setattr("kzoo.evaluate.knn", lambda train, test: given.append((train, test)) or 0.5)
        monkeypatch.setattr("kzoo.evaluate.linear_probe", lambda train, test: {"test_accuracy": 0.25})
        source = array_source("some", images(), np.arange(8) % 2, ["a", "b"])
        assert method.extra_metrics(source, source) == {
            "bag_of_patches_knn_accuracy": 0.5,
            "bag_of_patches_linear_accuracy": 0.25,
        }
        (train, test) = given[0]
        np.testing.assert_array_equal(train.features, test.features)
        np.testing.assert_array_equal(train.labels, np.arange(8) % 2)
        assert train.features.shape == (8, 24)
        assert train.features.min() >= 0  # after the ReLU

        # an image of one colour has equal patches, whose mean is any of them
        flat = np.tile(np.arange(0, 240, 30, dtype="uint8")[:, None, None, None], (1, 16, 16, 3))
        method.extra_metrics(array_source("flat", flat, np.arange(8) % 2, ["a", "b"]), source)
        x = method.backbone(flat / np.float32(255), training=False)["embedding"]
        for layer in method.projector.layers[:3]:
            x = layer(x)
        np.testing.assert_allclose(given[1][0].features, x, atol=1e-5)

    def test_nothing_is_said_without_a_test_split(self, method):
        assert method.extra_metrics(array_source("some", images()), None) == {}
