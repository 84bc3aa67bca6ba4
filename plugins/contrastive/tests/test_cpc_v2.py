"""CPC v2 against its paper: four directions, what is predicted, and the augmentation of single patches."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_contrastive.parts import patch_augment, patches
from kzoo_contrastive.parts.patch_augment import PRIMITIVES, augment_patches
from kzoo_contrastive.specs.cpc_v2 import PatchOptions

import kzoo
from kzoo.layers import every_layer
from kzoo.testing import fakes
from kzoo.testing.fakes import batch_of

SMALL = {"grid": 4, "steps": 2, "skip": 1, "context_layers": 1, "context_width": 8, "target_width": 6}
STILL = {"flip": 0.0, "primitives": 0, "warp_p": 0.0, "jitter_p": 0.0, "greyscale_p": 0.0, "drop_p": 0.0}


def build(channels=3, **options):
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("small_resnet", input_shape=(None, None, channels), width=4, norm="layer")
    return kzoo.build_method("cpc_v2", backbone=backbone, **{"size": 32, **SMALL, **options})


def images(count=4, size=32, channels=3):
    return fakes.images(count, size, channels)


def cells(count=32, side=16, channels=3):
    return tf.constant(np.random.default_rng(0).uniform(size=(count, side, side, channels)).astype("float32"))


def keys(count=32):
    return tf.range(count, dtype=tf.int64)


def only(*names, count=32):
    """Primitives of which just these act, on every patch."""
    return {name: tf.fill([count], name in names) for name in PRIMITIVES}


@pytest.fixture(scope="module")
def method():
    return build()


class TestPrediction:
    def test_no_batch_normalisation_anywhere(self, method):
        kinds = {type(layer).__name__ for layer in every_layer(method)}
        assert "BatchNormalization" not in kinds
        assert "GroupNormalization" in kinds

    def test_images_of_260_px_make_the_papers_grid(self, method):
        options = type(method.options)()
        found = patches.positions(260, options.grid, options.patch)
        assert found.shape == (6, 80)
        np.testing.assert_array_equal(np.diff(found[:, 0]), [36] * 5)

    @pytest.mark.parametrize("size", [32, 64])
    def test_quarters_of_cifar_and_stl_images_make_grids_of_seven(self, size):
        found = patches.positions(size, 7, 0.25)
        assert found.shape == (7, size // 4)
        assert (np.diff(found[:, 0]) == size // 8).all()
        assert found[-1, -1] == size - 1

    def test_each_direction_has_networks_of_its_own(self, method):
        assert [each.name for each in method.predictors] == ["down", "up", "right", "left"]
        owners = [{id(v) for v in each.trainable_variables} for each in method.predictors]
        assert len(set.union(*owners)) == sum(map(len, owners))
        assert all(owners)

    def test_zero_predictions_cost_the_log_of_all_patches(self):
        method = build()
        for each in method.predictors:
            for matrix in each.matrices:
                matrix.kernel.assign(tf.zeros_like(matrix.kernel))
        batch = batch_of(method, images())
        logs = method.loss(method.forward(batch, training=True), batch)
        assert float(logs["loss"]) == pytest.approx(math.log(4 * 16), abs=1e-5)
        assert float(logs["information"]) == pytest.approx(0.0, abs=1e-5)

    def test_only_distances_beyond_those_skipped_are_predicted(self, method):
        assert set(method.forward(batch_of(method, images()), training=False)) == {
            f"{direction}_{key}" for direction in ("down", "up", "right", "left") for key in ("targets", "2")
        }

    def test_up_is_down_on_mirrored_latents_when_weights_are_tied(self, method):
        down, up, right = method.predictors[0], method.predictors[1], method.predictors[2]
        z = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 4, 16)).astype("float32"))
        flat = tf.constant(
            np.random.default_rng(1).uniform(size=(2, 1, 1, 3)).astype("float32").repeat(32, 1).repeat(32, 2)
        )
        kept = up.get_weights()
        up.set_weights(down.get_weights())
        right.set_weights(down.get_weights())

        def losses(latents, monkey):
            monkey.setattr(method, "embed_patches", lambda mosaic, training: latents)
            outputs = method.forward({"patches": flat}, training=False)
            found = {}
            for each in (down, up, right):
                found[each.name] = float(
                    method._info_nce(outputs[f"{each.name}_2"], outputs[f"{each.name}_targets"], 2)["loss"]
                )
            return found

        with pytest.MonkeyPatch.context() as monkey:
            plain = losses(z, monkey)
            mirrored = losses(tf.reverse(z, [1]), monkey)
            transposed = losses(tf.transpose(z, [0, 2, 1, 3]), monkey)
        up.set_weights(kept)
        # candidates stand in another order, which a softmax does not see
        assert mirrored["up"] == pytest.approx(plain["down"], rel=1e-5)
        assert mirrored["down"] == pytest.approx(plain["up"], rel=1e-5)
        assert transposed["right"] == pytest.approx(plain["down"], rel=1e-5)
        assert plain["up"] != pytest.approx(plain["down"], rel=1e-3)

    def test_predictions_are_scaled_by_a_tenth(self, method):
        predictor = method.predictors[0]
        z = tf.constant(np.random.default_rng(0).normal(size=(1, 4, 4, 16)).astype("float32"))
        expected = 0.1 * np.array(predictor.matrices[0](predictor.context(z)))
        np.testing.assert_allclose(predictor(z)["2"], expected, atol=1e-6)

    def test_every_weight_moves(self):
        method = build()
        method.compile(keras.optimizers.Adam(1e-3))
        before = [np.array(v) for v in method.trainable_variables]
        step = tf.function(method.train_step)
        logs = [step(batch_of(method, images())) for _ in range(3)]
        still = [v.path for v, old in zip(method.trainable_variables, before, strict=True) if np.array_equal(v, old)]
        assert not still
        assert float(logs[-1]["loss"]) < float(logs[0]["loss"])


class TestAugmentation:
    def test_patches_of_one_image_are_changed_each_by_itself(self):
        method = build(augment={**STILL, "jitter_p": 1.0})
        mosaic = batch_of(method, np.full((1, 32, 32, 3), 128, "uint8"))["patches"]
        colours = patches.split(mosaic, 4).numpy()[:, 0, 0]
        assert len(np.unique(colours.round(4), axis=0)) == 16
        still = batch_of(build(augment=STILL), np.full((1, 32, 32, 3), 128, "uint8"))["patches"]
        np.testing.assert_allclose(still, np.full((1, 40, 40, 3), 128 / 255), atol=1e-6)

    def test_nothing_happens_where_all_is_off(self):
        x = cells()
        np.testing.assert_allclose(augment_patches(x, keys(), PatchOptions(**STILL)), x, atol=1e-6)

    def test_repeats_per_patch_whatever_the_batch(self):
        x, options = cells(), PatchOptions()
        whole = augment_patches(x, keys(), options)
        assert float(tf.reduce_min(whole)) >= 0.0
        assert float(tf.reduce_max(whole)) <= 1.0
        assert np.abs(whole - x).mean() > 0.05
        np.testing.assert_allclose(augment_patches(x[5:9], keys()[5:9], options), whole[5:9], atol=1e-5)

    def test_two_different_primitives_for_each_patch(self):
        chosen = np.stack(list(patch_augment.draw_primitives(keys(3000), 2).values()), axis=1)
        assert chosen.shape == (3000, 12)
        assert (chosen.sum(axis=1) == 2).all()
        assert chosen.mean(axis=0) == pytest.approx(np.full(12, 1 / 6), abs=0.03)

    def test_greys_work(self):
        x = cells(channels=1)
        changed = augment_patches(x, keys(), PatchOptions(drop_p=1.0))
        assert changed.shape == x.shape
        assert float(tf.reduce_max(changed)) > 0.0


class TestShape:
    def test_turns_are_about_the_centre_by_30_degrees_at_most(self):
        """A disc in the middle stays; a spot near the edge moves along its circle."""
        y, x = np.mgrid[-15.5:16.5, -15.5:16.5]
        disc = (np.hypot(x, y) < 10).astype("float32")[None, :, :, None].repeat(200, 0)
        turned = patch_augment.warp(tf.constant(disc), keys(200), only("rotate", count=200), 0.0)
        assert np.abs(turned - disc).mean() < 0.02
        spot = np.exp(-((x - 8) ** 2 + y**2) / 8).astype("float32")[None, :, :, None].repeat(200, 0)
        turned = np.array(patch_augment.warp(tf.constant(spot), keys(200), only("rotate", count=200), 0.0))[..., 0]
        weight = turned.sum(axis=(1, 2))
        at_x, at_y = ((turned * axis).sum(axis=(1, 2)) / weight for axis in (x, y))
        np.testing.assert_allclose(np.hypot(at_x, at_y), 8.0, atol=0.2)
        angles = np.degrees(np.arctan2(at_y, at_x))
        assert np.abs(angles).max() == pytest.approx(30, abs=2)
        assert abs(angles.mean()) < 4

    def test_shifts_and_shears_along_one_axis(self):
        y, x = np.mgrid[-15.5:16.5, -15.5:16.5]
        spot = tf.constant(np.exp(-(x**2 + (y - 6) ** 2) / 8).astype("float32")[None, :, :, None].repeat(100, 0))

        def centre(name):
            moved = np.array(patch_augment.warp(spot, keys(100), only(name, count=100), 0.0))[..., 0]
            return [(moved * axis).sum(axis=(1, 2)) / moved.sum(axis=(1, 2)) for axis in (x, y)]

        at_x, at_y = centre("shear_x")  # by 0.3 of the distance from the middle row, which is 6
        assert np.abs(at_x).max() == pytest.approx(0.3 * 6, abs=0.15)
        np.testing.assert_allclose(at_y, 6.0, atol=0.15)
        at_x, at_y = centre("shear_y")
        np.testing.assert_allclose(at_x, 0.0, atol=0.15)
        at_x, at_y = centre("translate_x")
        np.testing.assert_allclose(at_y, 6.0, atol=0.15)
        assert np.abs(at_x).max() > 8

    def test_elastic_deformation_is_smooth_and_small(self):
        ramp = tf.constant(np.linspace(0, 1, 32, dtype="float32")[None, None, :, None].repeat(50, 0).repeat(32, 1))
        moved = np.array(patch_augment.elastic(ramp, keys(50)))[..., 0]
        pixels = (moved - np.array(ramp)[..., 0]) * 31  # by how many pixels each sample moved
        assert 0.5 < pixels[:, :, 8:-8].std() < 1.6  # vectors of 32 / 20 = 1.6, averaged by the interpolation
        assert np.abs(np.diff(pixels, axis=1)).max() < 1.0  # neighbours move alike

    def test_a_share_of_the_patches_is_deformed(self):
        x = cells(count=400)
        moved = patch_augment.warp(x, keys(400), only(count=400), 0.2)
        changed = np.abs(moved - x).reshape(400, -1).max(axis=1) > 1e-3
        assert changed.mean() == pytest.approx(0.2, abs=0.06)


class TestColour:
    def test_autocontrast_spreads_each_channel(self):
        x = 0.3 + 0.2 * cells()
        wide = np.array(patch_augment.recolour(x, keys(), only("autocontrast")))
        np.testing.assert_allclose(wide.min(axis=(1, 2)), 0.0, atol=1e-5)
        np.testing.assert_allclose(wide.max(axis=(1, 2)), 1.0, atol=1e-5)

    def test_solarize_inverts_what_is_not_below_a_threshold(self):
        x = np.array(cells())
        bent = np.array(patch_augment.recolour(tf.constant(x), keys(), only("solarize")))
        inverted = np.isclose(bent, 1 - x, atol=1e-5) & ~np.isclose(bent, x, atol=1e-5)
        for before, flipped in zip(x, inverted, strict=True):
            assert before[flipped].min(initial=1.0) >= before[~flipped].max(initial=0.0) - 1e-2

    def test_posterize_leaves_few_levels(self):
        x = tf.constant(np.linspace(0, 1, 4096, dtype="float32").reshape(1, 64, 64, 1).repeat(40, 0))
        counts = {
            len(np.unique(one)) for one in np.array(patch_augment.recolour(x, keys(40), only("posterize", count=40)))
        }
        assert counts == {16, 32, 64, 128, 256}

    def test_sharpness_changes_what_is_not_smooth(self):
        flat = tf.fill((32, 16, 16, 3), 0.5)
        np.testing.assert_allclose(patch_augment.recolour(flat, keys(), only("sharpness")), flat, atol=1e-5)
        x = 0.4 + 0.2 * cells()
        contrast = (
            np.array(patch_augment.recolour(x, keys(), only("sharpness"))).std(axis=(1, 2, 3)) / 0.2 / math.sqrt(1 / 12)
        )
        assert contrast.min() < 0.7
        assert contrast.max() > 1.3

    def test_two_of_three_channels_are_dropped(self):
        x = 0.1 + cells(count=300)
        kept = np.array(patch_augment.drop_colours(x, keys(300), 1.0))
        alive = kept.max(axis=(1, 2)) > 0
        assert (alive.sum(axis=1) == 1).all()
        assert alive.mean(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=0.08)
        np.testing.assert_array_equal(kept[kept > 0], np.array(x)[kept > 0])
        np.testing.assert_array_equal(patch_augment.drop_colours(x, keys(300), 0.0), x)
