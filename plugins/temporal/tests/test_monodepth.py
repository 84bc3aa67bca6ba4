"""Monodepth: the sign of the warp, what costs nothing, what reaches the disparity, and the figures of depth."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_temporal.examples import PAIRS, texture
from kzoo_temporal.monodepth import Monodepth, photometric
from kzoo_temporal.options import MonodepthOptions
from kzoo_temporal.parts.depth_figures import depth_figures, disparity_figures
from kzoo_temporal.parts.photometric import dissimilarity, roughness, shift_columns

import kzoo
from kzoo.testing.examples import raw_batch
from kzoo.testing.tiny import tiny_backbone

WIDTH = 64


@pytest.fixture(scope="module")
def method():
    keras.utils.set_random_seed(0)
    return kzoo.build_method("monodepth", tiny_backbone((32, 32, 3)), data=PAIRS.source(32, 3), decoder_width=4)


@pytest.fixture(scope="module")
def pair():
    """The right picture has everything 4 pixels further left."""
    picture = texture(np.random.default_rng(0), 32, WIDTH + 4, 3)[None]
    return {"left": tf.constant(picture[:, :, :WIDTH]), "right": tf.constant(picture[:, :, 4:])}


def told(d_left, d_right=None):
    shape = (1, 32, WIDTH)
    both = [np.broadcast_to(np.float32(d), shape) for d in (d_left, d_left if d_right is None else d_right)]
    return {"disparity_0": tf.constant(np.stack(both, axis=-1))}


class TestWarp:
    def test_with_the_true_disparity_the_left_picture_is_made_exactly(self, pair):
        made = shift_columns(pair["right"], tf.fill((1, 32, WIDTH), -4 / WIDTH))
        np.testing.assert_allclose(made[:, :, 4:], pair["left"][:, :, 4:], atol=1e-5)
        back = shift_columns(pair["left"], tf.fill((1, 32, WIDTH), 4 / WIDTH))
        np.testing.assert_allclose(back[:, :, :-4], pair["right"][:, :, :-4], atol=1e-5)

    def test_the_wrong_sign_doubles_the_error(self):
        """Of a ramp, whose error is as large as the distance."""
        ramp = tf.repeat(tf.linspace(0.0, 1.0, WIDTH)[None, None, :, None], 32, axis=1)
        right = shift_columns(ramp, tf.fill((1, 32, WIDTH), 4 / WIDTH))

        def error(sign):
            made = shift_columns(right, tf.fill((1, 32, WIDTH), sign * 4 / WIDTH))
            return float(tf.reduce_mean(tf.abs(made - ramp)[:, :, 12:-12]))

        errors = [error(sign) for sign in (-1, 0, 1)]
        assert errors[0] == pytest.approx(0, abs=1e-6)
        assert errors[2] == pytest.approx(2 * errors[1], rel=1e-4)

    def test_between_columns_it_is_linear_and_beyond_the_border_the_last(self):
        row = tf.reshape(tf.constant([0.0, 1, 2, 3]), (1, 1, 4, 1))
        np.testing.assert_allclose(shift_columns(row, tf.fill((1, 1, 4), 0.125))[0, 0, :, 0], [0.5, 1.5, 2.5, 3])
        np.testing.assert_allclose(shift_columns(row, tf.fill((1, 1, 4), -0.5))[0, 0, :, 0], [0, 0, 0, 1])

    def test_the_gradient_reaches_the_disparity(self, pair):
        shift = tf.fill((1, 32, WIDTH), -2.5 / WIDTH)
        with tf.GradientTape() as tape:
            tape.watch(shift)
            error = photometric(pair["left"], shift_columns(pair["right"], shift))
        assert np.abs(tape.gradient(error, shift)).max() > 0


class TestLoss:
    def test_the_same_picture_twice_without_disparity_costs_nothing(self, method, pair):
        logs = method.loss(told(0.0), {"left": pair["left"], "right": pair["left"]})
        assert float(logs["photometric"]) == pytest.approx(0, abs=1e-6)
        assert float(logs["disagree"]) == 0
        assert float(logs["loss"]) == pytest.approx(0, abs=1e-6)

    def test_a_constant_disparity_is_smooth_and_agrees(self, method, pair):
        logs = method.loss(told(0.1), pair)
        assert float(logs["rough"]) == 0
        assert float(logs["disagree"]) == pytest.approx(0, abs=1e-7)

    def test_sides_that_differ_by_a_constant_disagree_by_it_twice(self, method, pair):
        assert float(method.loss(told(0.1, 0.15), pair)["disagree"]) == pytest.approx(0.1, rel=1e-5)

    def test_the_true_disparity_costs_least(self, method, pair):
        costs = [float(method.loss(told(pixels / WIDTH), pair)["photometric"]) for pixels in (0, 2, 4, 6, 8)]
        assert np.argmin(costs) == 2
        assert costs[2] < 0.3 * costs[0]

    def test_weights_and_scales_are_summed_as_in_the_paper(self, method, pair):
        rng = np.random.default_rng(0)
        outputs = {
            f"disparity_{s}": tf.constant(rng.uniform(0, 0.3, (1, 32 >> s, WIDTH >> s, 2)), tf.float32) for s in (0, 1)
        }
        logs = method.loss(outputs, pair)
        total = float(logs["photometric"]) + 0.1 * float(logs["rough"]) + 1.0 * float(logs["disagree"])
        assert float(logs["loss"]) == pytest.approx(total, rel=1e-6)
        alone = [method.loss({"disparity_0": outputs["disparity_0"]}, pair)]
        half = {side: tf.nn.avg_pool2d(image, 2, 2, "VALID") for side, image in pair.items()}
        alone.append(method.loss({"disparity_0": outputs["disparity_1"]}, half))
        for name, weight in (("photometric", 1.0), ("disagree", 1.0), ("rough", 0.5)):
            expected = float(alone[0][name]) + weight * float(alone[1][name])
            assert float(logs[name]) == pytest.approx(expected, rel=1e-5)

    def test_it_trains_on_the_left_picture_alone(self, method):
        raw = raw_batch(PAIRS.source(32, 3), 4)
        batch = method.transform(raw, raw["id"])
        one, other = (
            method.forward({**batch, "right": right}, training=False) for right in (batch["right"], batch["left"])
        )
        np.testing.assert_array_equal(one["disparity_0"], other["disparity_0"])


class TestSimilarity:
    def test_of_a_picture_with_itself_ssim_is_1(self, pair):
        assert np.abs(dissimilarity(pair["left"], pair["left"])).max() < 1e-5

    def test_is_that_of_a_window_by_hand(self, pair):
        x, y = (np.asarray(pair[side], "float64")[0, 5:8, 9:12, 1] for side in ("left", "right"))
        c1, c2 = 1e-4, 9e-4
        covariance = (x * y).mean() - x.mean() * y.mean()
        ssim = (2 * x.mean() * y.mean() + c1) * (2 * covariance + c2)
        ssim /= (x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var() + y.var() + c2)
        found = float(dissimilarity(pair["left"], pair["right"])[0, 5, 9, 1])
        assert found == pytest.approx(np.clip((1 - ssim) / 2, 0, 1), abs=1e-4)

    def test_roughness_counts_less_at_edges(self):
        disparity = tf.constant(np.repeat([[0.0, 0.0, 1.0, 1.0]], 4, axis=0)[None], tf.float32)
        flat, edge = tf.zeros((1, 4, 4, 3)), tf.repeat(disparity[..., None], 3, axis=3)
        assert float(roughness(disparity, flat)) == pytest.approx(1 / 3)
        assert float(roughness(disparity, edge)) == pytest.approx(np.exp(-1) / 3)


def test_disparities_lie_between_0_and_3_tenths_at_every_scale(method):
    images = tf.random.stateless_uniform((2, 32, 32, 3), (0, 1))
    found = method.disparities(images, training=False)
    assert [tuple(one.shape) for one in found] == [(2, 32, 32, 2), (2, 16, 16, 2), (2, 8, 8, 2)]
    for one in found:
        assert 0 < one.numpy().min() <= one.numpy().max() < 0.3


def test_the_signature_depth_is_the_inverse_of_a_picture_and_its_mirror_image_taken_together(method):
    images = tf.random.stateless_uniform((2, 32, 32, 3), (0, 1))
    found = method.signatures()["depth"](images)
    assert all(value.shape == (2, 32, 32) for value in found.values())
    np.testing.assert_allclose(found["depth"] * found["disparity"], 1, rtol=1e-5)
    plain, mirrored = (
        method.disparities(one, training=False)[0][..., 0].numpy() for one in (images, images[:, :, ::-1])
    )
    mirrored = mirrored[:, :, ::-1]
    np.testing.assert_allclose(found["disparity"][:, :, 16], (plain + mirrored)[:, :, 16] / 2, rtol=1e-5)
    np.testing.assert_allclose(found["disparity"][:, :, 0], mirrored[:, :, 0], rtol=1e-5)  # which sees more there
    np.testing.assert_allclose(found["disparity"][:, :, -1], plain[:, :, -1], rtol=1e-5)


def test_a_mirrored_pair_changes_sides():
    raw = raw_batch(PAIRS.source(32, 3), 4)
    ready = Monodepth.pretext(raw, raw["id"], MonodepthOptions(flip=1.0, vary=0.0))
    np.testing.assert_allclose(ready["left"], raw["right"][:, :, ::-1].numpy() / 255, atol=1e-6)
    np.testing.assert_allclose(ready["right"], raw["left"][:, :, ::-1].numpy() / 255, atol=1e-6)


def test_colours_vary_alike_on_both_sides():
    raw = raw_batch(PAIRS.source(32, 3), 4)
    alike = {**raw, "right": raw["left"]}
    ready = Monodepth.pretext(alike, raw["id"], MonodepthOptions(flip=0.0, vary=1.0))
    np.testing.assert_array_equal(ready["left"], ready["right"])
    assert np.abs(ready["left"] - raw["left"].numpy() / 255).max() > 0.05


class TestFigures:
    def test_of_the_truth(self):
        true = np.random.default_rng(0).uniform(0.05, 0.3, 100)
        expected = {"correlation": 1.0, "abs_rel": 0.0, "rmse": 0.0, "delta": 1.0}
        assert depth_figures(true, true) == pytest.approx(expected, abs=1e-9)

    def test_of_twice_the_disparity(self):
        """Half the depth: its relative error is a half, and none is within a factor of 1.25."""
        true = np.random.default_rng(0).uniform(0.05, 0.3, 100)
        found = depth_figures(2 * true, true)
        assert found["abs_rel"] == pytest.approx(0.5)
        assert found["delta"] == 0
        assert found["correlation"] == pytest.approx(1)

    def test_the_true_disparity_beats_none_and_the_best_constant(self):
        source = PAIRS.source(32, 3)
        true = np.array([1, 2, 3, 4] * 8) / 32  # as the examples are made
        order = iter(np.split(true, 4))
        found = disparity_figures(
            lambda images: tf.broadcast_to(next(order)[:, None, None], (8, 32, 32)), photometric, source, 0.3
        )
        assert found["photometric_error"] < 0.7 * found["photometric_error_of_constant"]
        assert found["photometric_error_of_constant"] < found["photometric_error_of_zero"]
        assert "abs_rel" not in found
