"""CPC against its paper: geometry, causality, the loss in closed form, what goes downstream."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_contrastive.cpc import crop_and_pad, turn
from kzoo_contrastive.parts import patches

import kzoo
from kzoo.errors import OptionsError
from kzoo.testing import fakes
from kzoo.testing.fakes import batch_of

SMALL = {"grid": 4, "steps": 2, "context_layers": 2, "context_width": 8}


def build(size=32, channels=3, **options):
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("small_resnet", input_shape=(None, None, channels), width=4, norm="layer")
    return kzoo.build_method("cpc", backbone=backbone, **{"size": size, **SMALL, **options})


def images(count=4, size=32, channels=3, seed=0):
    return fakes.images(count, size, channels, seed, cell=4)


@pytest.fixture(scope="module")
def method():
    return build()


@pytest.fixture(scope="module")
def batch(method):
    return batch_of(method, images())


class TestGeometry:
    @pytest.mark.parametrize(
        ("side", "grid", "share", "length", "stride", "margin"),
        [
            (256, 7, 0.25, 64, 32, 0),  # the paper's
            (260, 6, 80 / 260, 80, 36, 0),  # of v2
            (32, 7, 0.25, 8, 4, 0),
            (64, 7, 0.25, 16, 8, 0),
            (128, 7, 0.25, 32, 16, 0),
            (28, 7, 0.25, 8, 3, 1),  # not below 8 pixels; what is left over is left out on both sides
        ],
    )
    def test_patches_are_relative_to_the_image(self, side, grid, share, length, stride, margin):
        found = patches.positions(side, grid, share)
        assert found.shape == (grid, length)
        np.testing.assert_array_equal(found[:, 0], margin + stride * np.arange(grid))
        np.testing.assert_array_equal(found, patches.positions(tf.constant(side), grid, share))

    def test_a_mosaic_splits_into_the_patches_and_joins_again(self):
        x = tf.constant(images(2, 32))
        mosaic = patches.cut(x, 7, 0.25)
        assert mosaic.shape == (2, 56, 56, 3)
        cells = patches.split(mosaic, 7)
        assert cells.shape == (2 * 49, 8, 8, 3)
        for image, row, column in [(0, 0, 0), (0, 2, 5), (1, 6, 6)]:
            part = x[image, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8]
            np.testing.assert_array_equal(cells[49 * image + 7 * row + column], part)
        np.testing.assert_array_equal(patches.join(cells, 7), mosaic)

    def test_images_that_hold_no_grid_are_refused(self):
        with pytest.raises(OptionsError, match=r"images of 12 px do not hold 7 patches of 8 px in a row"):
            patches.positions(12, 7, 0.25)

    @pytest.mark.parametrize(("size", "channels", "side"), [(28, 1, 8), (64, 3, 16), (128, 3, 32)])
    def test_other_sizes(self, size, channels, side):
        options = build(grid=7).options.model_copy(update={"size": None})
        raw = {"image": tf.zeros((1, size, size, channels), tf.uint8)}
        ready = kzoo.plugins.targets.resolve(kzoo.plugins.registry.find_method("cpc")).pretext(
            raw, tf.zeros(1, tf.int64), options
        )
        assert ready["patches"].shape == (1, 7 * side, 7 * side, channels)


class TestPretext:
    def test_each_patch_is_cropped_to_15_16ths_and_padded_with_zeros(self):
        """60 of 64 pixels from a place of its own, behind two pixels of zeros."""
        whole = np.random.default_rng(0).uniform(0.1, 1, (1, 64, 64, 1)).astype("float32")
        cells = np.array(crop_and_pad(tf.constant(whole.repeat(40, 0)), tf.range(40, dtype=tf.int64)))
        assert not cells[:, :2].any()
        assert not cells[:, -2:].any()
        assert not cells[:, :, :2].any()
        assert not cells[:, :, -2:].any()
        inner = cells[:, 2:-2, 2:-2]
        places = {
            (top, left)
            for cell in inner
            for top in range(5)
            for left in range(5)
            if np.array_equal(cell, whole[0, top : top + 60, left : left + 60])
        }
        assert len(places) > 10
        assert all(
            any(np.array_equal(cell, whole[0, y : y + 60, x : x + 60]) for y in range(5) for x in range(5))
            for cell in inner
        )

    def test_greyscale_is_the_same_for_all_patches_of_an_image(self):
        method = build(greyscale_p=0.5)
        cells = batch_of(method, images(16))["patches"].numpy()
        spread = np.ptp(cells, axis=-1).reshape(16, -1).max(axis=1)
        assert set(spread > 0.01) == {True, False}

    def test_repeats_under_a_seed_and_differs_between_patches(self, method):
        one, two = batch_of(method, images()), batch_of(method, images())
        np.testing.assert_array_equal(one["patches"], two["patches"])
        flat = batch_of(build(flip=0.0, greyscale_p=0.0, crop=1.0), np.full((2, 32, 32, 3), 255, "uint8"))
        cells = patches.split(flat["patches"], 4).numpy()
        # a white image: one pixel at the border is 0, the rest 1
        assert cells.reshape(len(cells), -1).mean(axis=1) == pytest.approx(np.full(32, (7 / 8) ** 2))


class TestContext:
    def test_context_does_not_see_rows_below(self, method, batch):
        """d c_ij / d patch_i'j' is exactly 0 for i' > i, and not for i' = i, by tape, through the backbone."""
        pixels = tf.Variable(batch["patches"][:1])
        with tf.GradientTape(persistent=True) as tape:
            context = method.predictors[0].context(method.embed_patches(pixels, training=True))
            rows = [tf.reduce_sum(context[:, row]) for row in range(4)]
        for row in range(4):
            gradient = np.array(tape.gradient(rows[row], pixels)).reshape(4, 8, 32, 3)  # by row of patches
            assert not gradient[row + 1 :].any()
            assert gradient[row].any()
            assert row == 0 or gradient[row - 1].any()

    def test_context_sees_its_neighbours_in_the_row(self, method):
        z = tf.Variable(np.random.default_rng(0).normal(size=(1, 4, 4, 16)).astype("float32"))
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(method.predictors[0].context(z)[:, 1, 1])
        seen = np.any(np.array(tape.gradient(value, z)) != 0, axis=(0, 3))
        assert seen[1, 0]
        assert seen[0, 2]

    @pytest.mark.parametrize(
        ("direction", "corner"), [("down", (0, 0)), ("up", (3, 0)), ("right", (0, 0)), ("left", (0, 3))]
    )
    def test_turning_puts_what_lies_there_below(self, direction, corner):
        grid = np.arange(16).reshape(1, 4, 4, 1)
        turned = np.array(turn(tf.constant(grid), direction))[0, :, :, 0]
        assert turned[0, 0] == grid[0, corner[0], corner[1], 0]
        step = {"down": 4, "up": -4, "right": 1, "left": -1}[direction]
        assert (np.diff(turned, axis=0) == step).all()


class TestLoss:
    def test_zero_matrices_cost_the_log_of_all_patches(self, method, batch):
        kept = [matrix.get_weights() for matrix in method.predictors[0].matrices]
        for matrix in method.predictors[0].matrices:
            matrix.kernel.assign(tf.zeros_like(matrix.kernel))
        logs = method.loss(method.forward(batch, training=True), batch)
        for matrix, weights in zip(method.predictors[0].matrices, kept, strict=True):
            matrix.set_weights(weights)
        assert float(logs["loss"]) == pytest.approx(math.log(4 * 16), abs=1e-5)
        assert float(logs["information"]) == pytest.approx(method.chance()["information"], abs=1e-5)

    def test_a_target_is_the_patch_k_rows_below_of_the_same_image(self, method):
        """Predictions that are the one-hot codes of the patches k rows below cost nothing; of another place, much."""
        codes = tf.reshape(tf.eye(2 * 16), (2, 4, 4, 32))
        for step in (1, 2):
            below = tf.roll(codes, -step, axis=1)  # what wraps around is cut off
            found = method._info_nce(100 * below, codes, step)
            assert float(found["loss"]) == pytest.approx(0.0, abs=1e-6)
            assert float(found["accuracy"]) == 1.0
            assert float(found["information"]) == pytest.approx(math.log(32), abs=1e-6)
            other = method._info_nce(100 * tf.roll(below, 1, axis=0), codes, step)  # of the other image
            assert float(other["loss"]) == pytest.approx(100.0, abs=1e-4)
            assert float(other["accuracy"]) == 0.0

    def test_scores_are_bilinear(self, method):
        """z+ . W_k c over all z, by hand."""
        generator = np.random.default_rng(0)
        z, predicted = generator.normal(size=(2, 4, 4, 5)), generator.normal(size=(2, 4, 4, 5))
        found = method._info_nce(tf.constant(predicted), tf.constant(z), 2)
        costs = []
        for image in range(2):
            for row in range(2):
                for column in range(4):
                    scores = z.reshape(-1, 5) @ predicted[image, row, column]
                    own = z[image, row + 2, column] @ predicted[image, row, column]
                    costs.append(np.log(np.exp(scores).sum()) - own)
        assert float(found["loss"]) == pytest.approx(np.mean(costs), abs=1e-9)

    def test_every_step_has_a_matrix_of_its_own_without_bias(self):
        method = build(grid=7, steps=5)
        matrices = method.predictors[0].matrices
        assert [matrix.name for matrix in matrices] == ["w_1", "w_2", "w_3", "w_4", "w_5"]
        assert not any(matrix.use_bias for matrix in matrices)
        assert method.predictors[0].target is None  # z itself is predicted


class TestTraining:
    def test_learns_one_batch_and_loses_it_when_targets_are_shuffled(self):
        method = build()
        method.compile(keras.optimizers.Adam(3e-3))
        before = [np.array(v) for v in method.trainable_variables]
        pictures = np.random.default_rng(1).integers(0, 256, (8, 8, 8, 3)).astype("uint8").repeat(4, 1).repeat(4, 2)
        step, batch = tf.function(method.train_step), batch_of(method, pictures)
        for _ in range(80):
            last = step(batch)
        still = [v.path for v, old in zip(method.trainable_variables, before, strict=True) if np.array_equal(v, old)]
        assert not still
        chance = math.log(8 * 16)
        assert float(last["loss"]) < 0.4 * chance
        outputs = method.forward(batch, training=False)
        assert float(method.loss(outputs, batch)["information"]) > 0.6 * chance
        outputs["down_targets"] = tf.roll(outputs["down_targets"], 1, axis=0)  # the patches of another image
        assert float(method.loss(outputs, batch)["loss"]) >= chance

    def test_answers_show_context_target_and_pick(self, method, batch):
        shown = method.visualise({"image": images()}, batch)
        assert {name: value.shape for name, value in shown.items()} == {
            "context": (4, 32, 32, 3),
            "what follows": (4, 8, 8, 3),
            "what it picks": (4, 8, 8, 3),
        }
        cells = patches.split(batch["patches"], 4).numpy().reshape(4, 4, 4, 8, 8, 3)
        np.testing.assert_array_equal(shown["what follows"], cells[:, 2, 2])  # row 1 is the context, one below it
        assert (shown["context"][:, 16:] == 0.5).all()


class TestDownstream:
    def test_the_embedding_is_the_mean_over_patches(self, method):
        pictures = images(2) / np.float32(255)
        outputs = method.encoder(pictures)
        cells = patches.split(patches.cut(tf.constant(pictures), 4, 0.25), 4)
        z = np.array(method.backbone(cells)["embedding"]).reshape(2, 4, 4, 16)
        np.testing.assert_allclose(outputs["map"], z, atol=1e-5)
        np.testing.assert_allclose(outputs["embedding"], z.mean(axis=(1, 2)), atol=1e-5)
        np.testing.assert_allclose(method(images(2)), outputs["embedding"], atol=1e-6)

    def test_takes_images_of_any_size(self, method):
        assert method.encoder(np.zeros((1, 48, 40, 3), "float32"))["map"].shape == (1, 4, 4, 16)

    def test_or_the_backbone_on_the_whole_image(self):
        method = build(downstream="image")
        assert method.encoder is method.backbone

    def test_reloads_and_answers_the_same(self, method, tmp_path):
        method.encoder.save(tmp_path / "encoder.keras")
        again = keras.saving.load_model(tmp_path / "encoder.keras")
        pictures = images(2) / np.float32(255)
        np.testing.assert_allclose(again(pictures)["embedding"], method.encoder(pictures)["embedding"], atol=1e-6)


class TestRefusals:
    def test_batch_normalisation_unless_it_is_accepted(self):
        backbone = kzoo.build_backbone("small_resnet", input_shape=(None, None, 3), width=4)
        with pytest.raises(OptionsError, match=r"'small_resnet' normalises over the batch \('stem_norm'\)"):
            kzoo.build_method("cpc", backbone=backbone, **SMALL)
        method = kzoo.build_method("cpc", backbone=backbone, batch_norm=True, **SMALL)
        # why: with it, the embedding of a patch depends on the other patches
        cells = patches.split(batch_of(method, images())["patches"], 4)
        apart = method.embed(cells[:8], training=True) - method.embed(cells, training=True)[:8]
        assert np.abs(apart).max() > 1e-3
        own = build()
        apart = own.embed(cells[:8], training=True) - own.embed(cells, training=True)[:8]
        assert np.abs(apart).max() < 1e-5

    def test_a_backbone_of_one_size(self):
        backbone = kzoo.build_backbone("small_resnet", input_shape=(32, 32, 3), width=4, norm="layer")
        with pytest.raises(OptionsError, match=r"takes images of 32 px only, and is to embed patches; build it with"):
            kzoo.build_method("cpc", backbone=backbone, **SMALL)

    def test_patches_that_vanish_in_the_backbone(self):
        backbone = kzoo.build_backbone("convnet4", input_shape=(None, None, 3), width=4)
        options = {**SMALL, "batch_norm": True}
        with pytest.raises(OptionsError, match="patches of 8 px, of images of 32, are too small for backbone"):
            kzoo.build_method("cpc", backbone=backbone, **options)
        assert kzoo.build_method("cpc", backbone=backbone, size=64, **options)

    def test_distances_that_the_grid_does_not_have(self):
        with pytest.raises(OptionsError, match=r"expected skip < steps < grid"):
            build(grid=4, steps=4)
        with pytest.raises(OptionsError, match=r"expected skip < steps < grid"):
            build(skip=2, steps=2)
