"""Relative patch position against its paper: where patches are cut, what is hidden from the network, the shortcuts."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_context.options import RelativePositionOptions
from kzoo_context.relative_position import (
    DIRECTIONS,
    PROJECTION,
    Geometry,
    ProjectColour,
    coarsen,
    draw_pairs,
    drop_colours,
    geometry,
    laid_out,
)
from sklearn.linear_model import LogisticRegression

import kzoo
from kzoo.errors import OptionsError
from kzoo.testing import fakes
from kzoo.testing.fakes import batch_of

PAPER = RelativePositionOptions(patch=96, gap=48, jitter=7)
PLAIN = {"coarsen": 0.0, "colour": "keep"}  # patches as they are


def build(channels=3, **options):
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("small_resnet", input_shape=(None, None, channels), width=8)
    return kzoo.build_method("relative_position", backbone, **{"features": 32, "hidden": (64,), **options})


def keys(count, start=0):
    return tf.range(start, start + count, dtype=tf.int64)


def noise(count=4, size=48, channels=3, seed=0):
    return fakes.images(count, size, channels, seed)


class TestPairs:
    def test_the_papers_geometry_and_that_of_small_images(self):
        assert geometry(384, PAPER) == Geometry(96, 48, 7)
        assert geometry(320, RelativePositionOptions()) == Geometry(96, 48, 7)  # the same proportions
        assert geometry(28, RelativePositionOptions()) == Geometry(8, 4, 1)
        assert geometry(96, RelativePositionOptions()) == Geometry(28, 14, 2)
        with pytest.raises(OptionsError, match="two patches of 96 pixels with a gap of 48 need images of 240, these"):
            geometry(239, PAPER)

    def test_patches_keep_their_distance_and_stay_inside(self):
        """The gap less the jitter of both: 48 - 2 x 7 = 34 pixels."""
        position, corners, _ = (x if x is None else x.numpy() for x in draw_pairs(keys(3000), 260, PAPER))
        assert corners.min() >= 0
        assert corners.max() <= 260 - 96
        distance = np.abs(corners[:, :, 1] - corners[:, :, 0])
        apart = np.where(DIRECTIONS[position] != 0, distance - 96, 34)
        assert apart.min() == 34
        # side by side means nearly in line
        aligned = np.where(DIRECTIONS[position] == 0, distance, 0)
        assert aligned.max() == 14
        assert (np.sign(corners[:, :, 1] - corners[:, :, 0]) == DIRECTIONS[position])[DIRECTIONS[position] != 0].all()

    def test_positions_are_equally_likely(self):
        position = draw_pairs(keys(2500), 28, RelativePositionOptions())[0].numpy().ravel()
        counts = np.bincount(position, minlength=8)
        assert np.abs(counts - 1250).max() < 3 * math.sqrt(10_000 * 1 / 8 * 7 / 8)

    def test_a_shrunk_image_is_seen_through_larger_boxes(self):
        options = RelativePositionOptions(patch=20, gap=10, jitter=0, shrink=0.25)
        _, corners, sides = (x.numpy() for x in draw_pairs(keys(1000), 120, options))
        assert 20 <= sides.min() <= 21
        assert 39 <= sides.max() <= 40
        assert np.mean((20 / sides) ** 2) == pytest.approx(0.625, abs=0.03)  # uniform in area, from 1/4 to 1
        distance = np.abs(corners[:, :, 1] - corners[:, :, 0]).max(axis=2)
        np.testing.assert_allclose(distance / sides[:, None], np.full((1000, 4), 1.5), atol=0.05)
        assert (corners.max(axis=(1, 2, 3)) + sides).max() <= 120
        ramp = np.tile(np.arange(120, dtype="float32"), (20, 120, 1))[..., None]
        images = np.uint8(ramp)
        method = build(1, **PLAIN, patch=20, gap=10, jitter=0, shrink=0.25)
        patches = batch_of(method, images)["patch_0"].numpy()[..., 0] * 255
        steps = np.diff(patches, axis=2)  # of the ramp: how many pixels of the image a pixel of the patch covers
        covered = patches[:, 0, -1] - patches[:, 0, 0]
        assert np.ptp(steps[:, :, 2:-2], axis=(1, 2)).max() < 1e-3
        assert covered.max() > 1.6 * covered.min()

    def test_patches_are_cut_where_the_pairs_lie(self):
        image = np.arange(48 * 48, dtype="float32").reshape(1, 48, 48, 1) / 48**2
        method = build(1, **PLAIN)
        batch = batch_of(method, image)
        size, gap, _ = geometry(48, method.options)
        for first, second, position in zip(batch["patch_0"], batch["patch_1"], batch["position"], strict=True):
            pixels = np.round(np.stack([first, second])[..., 0] * 48**2).astype(int)
            rows, columns = np.divmod(pixels, 48)
            np.testing.assert_array_equal(rows[:, :, 0], rows[:, :1, 0] + np.arange(size))
            np.testing.assert_array_equal(columns[:, 0], columns[:, 0, :1] + np.arange(size))
            moved = np.array([rows[1, 0, 0] - rows[0, 0, 0], columns[1, 0, 0] - columns[0, 0, 0]])
            np.testing.assert_allclose(moved, DIRECTIONS[int(position)] * (size + gap), atol=2)


class TestHiding:
    def test_one_channel_informs_and_the_network_sees_an_rms_of_50(self):
        patches = noise(200, 16) / np.float32(255)
        dropped = drop_colours(tf.constant(patches), keys(200)).numpy()
        spread = dropped.std(axis=(1, 2))
        assert ((spread > 0.01).sum(axis=1) == 1).all()
        assert (
            dropped[:, :, :, :][spread[:, None, None] * np.ones_like(dropped) <= 0.01].max() <= 0.5 + 0.5 / 255 + 1e-6
        )
        kept = spread.argmax(axis=1)
        assert np.abs(np.bincount(kept) / 200 - 1 / 3).max() < 3 * math.sqrt(2 / 9 / 200)
        rows = np.arange(200)
        np.testing.assert_array_equal(dropped[rows, :, :, kept], patches[rows, :, :, kept])
        even = build().encoder.get_layer("even_contrast")(dropped).numpy()
        np.testing.assert_allclose(np.sqrt(np.square(even).mean(axis=(1, 2, 3))), np.full(200, 50.0), atol=1e-3)
        np.testing.assert_allclose(even.mean(axis=(1, 2)), np.zeros((200, 3)), atol=1e-3)

    def test_grey_patches_have_nothing_to_drop(self):
        patches = tf.constant(noise(3, 16, 1) / np.float32(255))
        np.testing.assert_array_equal(drop_colours(patches, keys(3)), patches)

    def test_projection_removes_green_magenta_and_leaves_grey(self):
        axis = np.array([-1.0, 2.0, -1.0])
        np.testing.assert_allclose(PROJECTION @ axis, np.zeros(3), atol=1e-12)
        np.testing.assert_allclose(PROJECTION @ PROJECTION, PROJECTION, atol=1e-12)
        assert np.linalg.matrix_rank(PROJECTION) == 2
        layer = ProjectColour()
        grey = tf.fill((1, 2, 2, 3), 0.3)
        np.testing.assert_allclose(layer(grey), grey, atol=1e-6)
        np.testing.assert_allclose(layer(tf.constant([[[[0.0, 1.0, 0.0]]]])), [[[[1 / 3, 1 / 3, 1 / 3]]]], atol=1e-6)
        names = [layer.name for layer in build(colour="project").encoder.layers]
        assert names[1:3] == ["project_colour", "even_contrast"]
        assert "project_colour" not in [layer.name for layer in build(1, colour="project").encoder.layers]

    def test_a_third_of_the_patches_loses_resolution(self):
        patches = tf.constant(noise(900, 16, 1) / np.float32(255))
        coarse = coarsen(patches, keys(900), 0.33).numpy()
        changed = (np.abs(coarse - patches) > 1e-6).any(axis=(1, 2, 3))
        # a side that rounds to all 16 pixels changes nothing: a share of pixels above (15.5 / 16)², 4 % of them
        assert changed.mean() == pytest.approx(0.33 * 0.96, abs=3 * math.sqrt(0.22 / 900))
        np.testing.assert_array_equal(coarse[~changed], patches.numpy()[~changed])
        # what is coarsened loses detail, not light
        assert np.abs(coarse - patches).mean(axis=(1, 2, 3)).max() > 0.1
        np.testing.assert_allclose(coarse.mean(axis=(1, 2, 3)), patches.numpy().mean(axis=(1, 2, 3)), atol=0.08)
        flat = tf.fill((50, 16, 16, 3), 0.4)
        np.testing.assert_allclose(coarsen(flat, keys(50), 1.0), flat, atol=1e-6)


class TestNetwork:
    def test_uniform_logits_cost_log_8(self):
        method = build()
        zeros = tf.zeros((16, 8))
        logs = method.loss({"logits": zeros, "logits_back": zeros}, batch_of(method, noise()))
        assert float(logs["loss"]) == pytest.approx(2.0794, abs=1e-4)
        assert method.chance() == pytest.approx({"loss": 2.0794, "accuracy": 0.125}, abs=1e-4)

    def test_the_way_back_has_the_mirrored_label(self):
        np.testing.assert_array_equal(DIRECTIONS[7 - np.arange(8)], -DIRECTIONS)
        method = build()
        position = tf.range(8)
        right = {"logits": 99.0 * tf.one_hot(position, 8), "logits_back": 99.0 * tf.one_hot(7 - position, 8)}
        assert float(method.loss(right, {"position": position})["accuracy"]) == 1.0
        swapped = {"logits": right["logits"], "logits_back": right["logits"]}
        assert float(method.loss(swapped, {"position": position})["accuracy"]) == 0.5

    def test_exchanging_the_patches_exchanges_the_answers(self):
        method = build()
        batch = batch_of(method, noise())
        outputs = method.forward(batch, training=False)
        other = method.forward({"patch_0": batch["patch_1"], "patch_1": batch["patch_0"]}, training=False)
        np.testing.assert_allclose(other["logits_back"], outputs["logits"], rtol=1e-5, atol=1e-4)  # logits reach 150
        np.testing.assert_allclose(other["logits"], outputs["logits_back"], rtol=1e-5, atol=1e-4)

    def test_gradient_reaches_everything(self):
        method = build()
        method.compile(keras.optimizers.SGD(0.1))
        before = [np.array(v) for v in method.trainable_variables]
        method.train_step(batch_of(method, noise()))
        assert all(not np.array_equal(v, old) for v, old in zip(method.trainable_variables, before, strict=True))

    def test_is_built_on_images_that_the_patches_fit_in(self):
        assert build(patch=96, gap=48, shrink=1 / 3).input_size == 418  # 240 sqrt(3), and 2 for rounding
        assert build(gap=60).input_size == 180
        assert build().input_size == 128

    def test_patches_too_small_for_the_backbone_are_refused(self):
        """Four poolings leave nothing of 9 pixels, and the mean of nothing is not a number."""
        backbone = kzoo.build_backbone("convnet4", input_shape=(None, None, 3))
        method = kzoo.build_method("relative_position", backbone, features=8, hidden=(8,))
        with pytest.raises(
            OptionsError, match=r"parts of 9 pixels are too small for convnet4; raise method.options.size"
        ):
            method.forward(batch_of(method, noise(2, 32)), training=True)
        assert np.isfinite(method.forward(batch_of(method, noise(2, 56)), training=True)["logits"]).all()

    @pytest.mark.parametrize(("size", "channels", "options"), [(28, 1, {}), (64, 3, {}), (28, 1, {"size": 56})])
    def test_sizes_and_grey(self, size, channels, options):
        method = build(channels, **options)
        batch = batch_of(method, noise(2, size, channels))
        side = int(0.3 * (method.options.size or size))
        assert batch["patch_0"].shape == (8, side, side, channels)
        assert method.forward(batch, training=False)["logits"].shape == (8, 8)
        assert method(noise(2, size, channels)).shape == (2, 32)

    def test_answers_lay_the_patches_out(self):
        method = build(pairs=2, **PLAIN)
        batch = batch_of(method, noise())
        true = batch["position"].numpy()[::2]
        said = np.where(np.arange(4) == 3, (true + 1) % 8, true)
        method.forward = lambda batch, training: {"logits": tf.one_hot(said, 8)}
        answers = method.visualise({}, batch)
        np.testing.assert_array_equal(answers["answered"][:3], answers["true"][:3])
        assert not np.array_equal(answers["answered"][3], answers["true"][3])
        assert "\nnot " in answers["answer"][3]
        picture = laid_out(np.zeros((1, 4, 4, 1)), np.full((1, 4, 4, 1), 0.5), np.array([4]))[0, ..., 0]
        assert picture.shape == (14, 14)
        assert (picture[5:9, 5:9] == 0).all()
        assert (picture[5:9, 10:14] == 0.5).all()  # 4: to the right
        assert (picture == 1).sum() == 14 * 14 - 32


def test_learns_where_patches_of_a_picture_lie_and_nothing_from_labels_at_random():
    picture = tf.image.resize(noise(1, 8, seed=3), (32, 32)).numpy()
    images = np.clip(picture + np.random.default_rng(0).normal(0, 8, (48, 32, 32, 3)), 0, 255).astype("uint8")
    accuracy = {}
    for name in ("true", "random"):
        method = build(**PLAIN)
        method.compile(keras.optimizers.Adam(3e-3))
        step, rng = tf.function(method.train_step), np.random.default_rng(0)
        batches = [batch_of(method, images[:16], 100 * i) for i in range(8)]
        for i in range(48):
            batch = batches[i % 8]
            if name == "random":
                batch = batch | {"position": tf.constant(rng.integers(0, 8, 64), tf.int32)}
            step(batch)
        held_out = [method.test_step(batch_of(method, images[16:], 9000 + 100 * i)) for i in range(2)]
        accuracy[name] = np.mean([float(logs["accuracy"]) for logs in held_out])
    assert accuracy["true"] > 0.8
    assert accuracy["random"] == pytest.approx(1 / 8, abs=0.08)


def facing_rims(first, second):
    """How badly the rims of two patches fit, for each of the eight positions. `[n, p, p, 1]`."""
    first, second = (
        (x - x.mean(axis=(1, 2, 3), keepdims=True)) / x.std(axis=(1, 2, 3), keepdims=True) for x in (first, second)
    )
    facing = {-1: (0, -1), 0: (slice(None), slice(None)), 1: (-1, 0)}
    fits = []
    for down, right in DIRECTIONS:
        rows, columns = facing[down], facing[right]
        difference = first[:, rows[0], columns[0]] - second[:, rows[1], columns[1]]
        if 0 in (down, right):
            difference = np.abs(difference).mean(axis=1)
        fits.append(np.abs(difference).reshape(len(first)))
    return np.stack(fits, axis=1)


@pytest.mark.parametrize(
    ("options", "low", "high"), [({}, 0.0, 0.3), ({"gap": 0, "jitter": 0}, 0.45, 1.0)], ids=["as published", "touching"]
)
def test_rims_give_the_position_away_only_without_gap_and_jitter(options, low, high, short_range):
    """What a reader of nothing but the patches' rims finds: next to nothing as the paper cuts them; if they touch, the
    four neighbours that share an edge, half of all."""
    method = build(1, **PLAIN, **options)
    batch = batch_of(method, short_range(700))
    fits = facing_rims(batch["patch_0"].numpy(), batch["patch_1"].numpy())
    fits = np.concatenate([fits, fits == fits.min(axis=1, keepdims=True)], axis=1)
    position = batch["position"].numpy()
    reader = LogisticRegression(max_iter=300).fit(fits[:2000], position[:2000])
    assert low <= reader.score(fits[2000:], position[2000:]) <= high
