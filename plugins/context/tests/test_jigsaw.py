"""Jigsaw puzzles against their paper: the permutations, the tiles, the network without context, the shortcuts."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_context.jigsaw import Geometry, geometry, joined, recolour, tiles_of
from kzoo_context.options import JigsawOptions
from kzoo_context.permutations import permutation_set
from sklearn.linear_model import LogisticRegression

import kzoo
from kzoo.errors import OptionsError
from kzoo.testing import fakes
from kzoo.testing.fakes import batch_of

PLAIN = {"greyscale": 0.0, "channel_shift": 0.0, "channel_scale": 0.0, "brightness": 0.0}  # tiles as they are


def build(channels=3, **options):
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("small_resnet", input_shape=(None, None, channels), width=8)
    return kzoo.build_method("jigsaw", backbone, **{"permutations": 8, "features": 16, "hidden": (64,), **options})


def keys(count, start=0):
    return tf.range(start, start + count, dtype=tf.int64)


def noise(count=4, size=48, channels=3, seed=0):
    return fakes.images(count, size, channels, seed)


class TestPermutations:
    @pytest.mark.parametrize(("count", "least", "mean"), [(100, 6, 0.8977), (1000, 5, 0.8898)])
    def test_far_apart(self, count, least, mean):
        """The greedy maximum of the least distance; of the sum alone it leaves a least distance of 2 or 3."""
        chosen = permutation_set(9, count)
        np.testing.assert_array_equal(np.sort(chosen, axis=1), np.tile(np.arange(9), (count, 1)))
        distance = (chosen[:, None] != chosen).sum(axis=-1)
        apart = distance[~np.eye(count, dtype=bool)]
        assert apart.min() == least  # so all rows differ
        assert apart.mean() / 9 == pytest.approx(mean, abs=1e-4)
        np.testing.assert_array_equal(distance[:9, :9], 9 * (1 - np.eye(9)))

    def test_the_same_everywhere_and_smaller_sets_begin_larger_ones(self):
        chosen = permutation_set(9, 100)
        np.testing.assert_array_equal(chosen[0], np.arange(9))
        np.testing.assert_array_equal(chosen[1], [1, 0, 3, 2, 5, 4, 7, 8, 6])
        np.testing.assert_array_equal(chosen[99], [7, 0, 6, 1, 5, 2, 3, 4, 8])
        np.testing.assert_array_equal(permutation_set(9, 40), chosen[:40])

    def test_four_tiles_have_24_orders(self):
        assert len(np.unique(permutation_set(4, 24), axis=0)) == 24
        with pytest.raises(ValueError, match=r"permutations: 4 tiles have 24 orders. Received: 25"):
            JigsawOptions(grid=2, permutations=25)


class TestTiles:
    def test_the_papers_geometry(self):
        options = JigsawOptions(crop=225 / 256)
        assert geometry(256, options) == Geometry(cell=75, tile=64, shift=2)
        assert geometry(28, JigsawOptions()) == Geometry(cell=9, tile=7, shift=0)
        assert geometry(128, JigsawOptions()) == Geometry(cell=42, tile=35, shift=1)
        with pytest.raises(OptionsError, match="jigsaw: tiles of 3 pixels, from images of 14; raise"):
            geometry(14, JigsawOptions())

    def test_every_tile_is_cut_from_its_own_cell_at_its_own_place(self):
        image = np.arange(48 * 48, dtype="float32").reshape(1, 48, 48, 1)  # a pixel's value is where it is
        tiles = tiles_of(tf.constant(image.repeat(200, 0)), keys(200), JigsawOptions()).numpy()
        assert tiles.shape == (200, 9, 13, 13, 1)
        first = tiles[:, :, 0, 0, 0].astype(int)
        top, left = first // 48, first % 48
        cells = np.arange(9)
        offsets = np.stack([top - 16 * (cells // 3), left - 16 * (cells % 3)], axis=-1)
        assert set(np.unique(offsets)) == {0, 1, 2, 3}  # 13 pixels in a cell of 16
        assert (offsets[:, 0] != offsets[:, 1]).any()  # not the same place in all cells
        rows, columns = np.mgrid[:13, :13]
        np.testing.assert_array_equal(tiles[5, 7, ..., 0], (top[5, 7] + rows) * 48 + left[5, 7] + columns)

    def test_the_inverse_permutation_restores_the_tiles(self):
        method = build(tile=1.0, **PLAIN)
        images = noise()
        batch = batch_of(method, images)
        tiles = batch["tiles"].numpy().reshape(4, 9, 16, 16, 3)
        back = np.argsort(method.permutations, axis=1)[batch["permutation"].numpy()]
        restored = joined(np.take_along_axis(tiles, back[:, :, None, None, None], axis=1))
        np.testing.assert_array_equal(restored, images / np.float32(255))

    def test_colour_channels_move_apart_but_stay_in_their_cell(self):
        ramp = np.tile(np.arange(48, dtype="float32")[:, None, None], (1, 48, 3))[None].repeat(100, 0)
        tiles = tiles_of(tf.constant(ramp), keys(100), JigsawOptions(channel_shift=2 / 16)).numpy()
        top = tiles[:, :, 0, 0, :] - 16 * (np.arange(9) // 3)[:, None]
        apart = top - top[..., :1]
        assert set(np.unique(apart)) == {-3, -2, -1, 0, 1, 2, 3}  # each by up to 2, kept within 0 .. 3
        assert top.min() == 0
        assert top.max() == 3

    def test_each_tile_has_its_own_colour_change(self):
        tiles = tf.fill((50, 9, 2, 2, 3), 0.5)
        factors = recolour(tiles, keys(50), JigsawOptions(brightness=0.0)).numpy()[:, :, 0, 0] / 0.5
        assert 0.8 <= factors.min() < 0.81
        assert 1.19 < factors.max() <= 1.2
        assert np.corrcoef(factors[..., 0].ravel(), factors[..., 1].ravel())[0, 1] < 0.15
        assert len(np.unique(factors[0, :, 0])) == 9
        shifts = recolour(tiles, keys(50), JigsawOptions(channel_scale=0.0)).numpy()[:, :, 0, 0] - 0.5
        np.testing.assert_allclose(shifts, shifts[..., :1].repeat(3, -1), atol=1e-7)
        assert 4.9 / 255 < np.abs(shifts).max() <= 5 / 255 + 1e-6

    def test_three_in_ten_puzzles_are_grey(self):
        method = build(channel_scale=0.0, channel_shift=0.0)
        tiles = batch_of(method, noise(200, 24))["tiles"].numpy().reshape(200, -1, 3)
        grey = (np.ptp(tiles, axis=-1) < 1e-6).all(axis=1)
        assert grey.mean() == pytest.approx(0.3, abs=3 * math.sqrt(0.3 * 0.7 / 200))

    def test_a_mirrored_image_has_the_same_label_and_mirrored_tiles(self):
        method = build(tile=1.0, **PLAIN)
        images = noise()
        batch, mirrored = batch_of(method, images), batch_of(method, images[:, :, ::-1])
        np.testing.assert_array_equal(batch["permutation"], mirrored["permutation"])
        tiles = batch["tiles"].numpy().reshape(4, 9, 16, 16, 3)
        others = mirrored["tiles"].numpy().reshape(4, 9, 16, 16, 3)
        back = np.argsort(method.permutations, axis=1)[batch["permutation"].numpy()][:, :, None, None, None]
        np.testing.assert_array_equal(
            joined(np.take_along_axis(others, back, axis=1)),
            joined(np.take_along_axis(tiles, back, axis=1))[:, :, ::-1],
        )


class TestNetwork:
    def test_each_tile_is_evened_out_by_itself_and_flat_ones_stay_flat(self):
        layer = build().encoder.get_layer("even_contrast")
        tiles = noise(6, 13) / np.float32(255) * np.linspace(0.1, 1, 6, dtype="float32")[:, None, None, None]
        even = layer(tiles).numpy()
        np.testing.assert_allclose(even.mean(axis=(1, 2, 3)), np.zeros(6), atol=1e-4)
        np.testing.assert_allclose(even.std(axis=(1, 2, 3)), np.ones(6), atol=1e-4)
        np.testing.assert_array_equal(layer(np.full((1, 5, 5, 3), 0.5, "float32")), np.zeros((1, 5, 5, 3)))

    def test_no_tile_knows_of_another(self):
        """Exchanging two tiles exchanges their features, and nothing else."""
        method = build()
        tiles = batch_of(method, noise())["tiles"]
        order = np.arange(36)
        order[[2, 7]] = [7, 2]
        features = method.features_of(tiles, training=False).numpy()
        exchanged = method.features_of(tf.gather(tiles, order), training=False).numpy()
        np.testing.assert_array_equal(exchanged.reshape(36, 16), features.reshape(36, 16)[order])
        assert not np.array_equal(features[0, 2], features[0, 7])

    def test_uniform_logits_cost_log_k(self):
        for count, expected in ((100, 4.6052), (1000, 6.9078)):
            method = build(permutations=count)
            logs = method.loss({"logits": tf.zeros((4, count))}, batch_of(method, noise()))
            assert float(logs["loss"]) == pytest.approx(expected, abs=1e-4)
            assert method.chance() == pytest.approx({"loss": expected, "accuracy": 1 / count}, abs=1e-4)

    def test_dropout_belongs_to_the_example_and_keeps_the_mean(self):
        method = build()
        seen = []
        method.features_of = lambda tiles, training: tf.ones((len(tiles) // 9, 9, 16))
        method.classifier = SimpleNamespace(layers=[lambda x: seen.append(x.numpy()) or x])
        for start, count, training in ((0, 50, True), (20, 30, True), (0, 50, False)):
            batch = {"tiles": tf.zeros((9 * count, 1, 1, 3)), "seed": keys(count, start)}
            method.forward(batch, training=training)
        whole, part, at_rest = seen
        assert set(np.unique(whole)) == {0.0, 2.0}
        assert whole.mean() == pytest.approx(1.0, abs=3 / math.sqrt(50 * 9 * 16))
        np.testing.assert_array_equal(part, whole[20:])  # whatever else is in the batch
        assert len(np.unique(whole, axis=0)) == 50
        np.testing.assert_array_equal(at_rest, np.ones((50, 9 * 16)))

    def test_dropout_also_follows_the_hidden_layers(self):
        """Half of the ones of fc7 are left out, others than those of fc6, and the rest doubled."""
        method, seen = build(hidden=(64,)), []
        ones = lambda x: tf.ones((len(x), 64))  # noqa: E731
        method.classifier = SimpleNamespace(layers=[ones, method.classifier.get_layer("relu_0"), seen.append])
        for training in (True, False):
            method.forward({"tiles": tf.zeros((9 * 50, 21, 21, 3)), "seed": keys(50)}, training=training)
        assert set(np.unique(seen[0])) == {0.0, 2.0}
        assert np.mean(seen[0]) == pytest.approx(1.0, abs=3 / math.sqrt(50 * 64))
        assert len(np.unique(seen[0], axis=0)) == 50
        np.testing.assert_array_equal(seen[1], np.ones((50, 64)))

    def test_gradient_reaches_everything(self):
        method = build()
        method.compile(keras.optimizers.SGD(0.1))
        before = [np.array(v) for v in method.trainable_variables]
        method.train_step(batch_of(method, noise()))
        assert all(not np.array_equal(v, old) for v, old in zip(method.trainable_variables, before, strict=True))

    def test_a_backbone_of_one_size_is_refused(self):
        backbone = kzoo.build_backbone("small_resnet", input_shape=(32, 32, 3), width=8)
        with pytest.raises(
            OptionsError, match=r"small_resnet takes 32 x 32 only; build it with input_shape=\(None, None"
        ):
            kzoo.build_method("jigsaw", backbone)

    def test_downstream_whole_images_pass_the_entrance_of_the_tiles(self):
        method = build()
        images = noise(2, 40)
        embedding = method(images)
        assert embedding.shape == (2, 32)
        assert set(method.encoder.output) == {"embedding", "map", "map_1", "map_2"}
        brighter = np.uint8(images // 2 + 60)  # the same but for contrast and brightness
        np.testing.assert_allclose(method(brighter), embedding, atol=0.05 * np.abs(embedding).max())
        direct = method.embed(images / np.float32(255), training=False)
        assert np.abs(direct - embedding).max() > 0.05 * np.abs(embedding).max()

    @pytest.mark.parametrize(
        ("size", "channels", "options"), [(28, 1, {}), (64, 3, {"grid": 2}), (28, 1, {"size": 56})]
    )
    def test_sizes_and_grey(self, size, channels, options):
        method = build(channels, **options)
        batch = batch_of(method, noise(2, size, channels))
        assert batch["tiles"].shape[0] == 2 * method.options.grid**2
        assert method.forward(batch, training=False)["logits"].shape == (2, 8)

    def test_answers_show_the_picture_shuffled_solved_and_true(self):
        method = build(tile=1.0, **PLAIN)
        images = noise()
        batch = batch_of(method, images)
        logits = tf.one_hot(batch["permutation"], 8).numpy()
        logits[3] = np.roll(logits[3], 1)  # the last is wrong
        method.forward = lambda batch, training: {"logits": logits}
        answers = method.visualise({}, batch)
        np.testing.assert_array_equal(answers["true"], images / np.float32(255))
        np.testing.assert_array_equal(answers["solved"][:3], answers["true"][:3])
        assert not np.array_equal(answers["solved"][3], answers["true"][3])
        assert answers["answer"][0] == "9 of 9 tiles\nin place"
        assert answers["answer"][3] == "0 of 9 tiles\nin place"  # the first nine differ everywhere


def test_learns_a_picture_it_sees_often_and_nothing_from_labels_at_random():
    picture = tf.image.resize(noise(1, 12, seed=3), (36, 36)).numpy()
    images = np.clip(picture + np.random.default_rng(0).normal(0, 8, (64, 36, 36, 3)), 0, 255).astype("uint8")
    accuracy = {}
    for name in ("true", "random"):
        method = build(dropout=0.0, greyscale=0.0)
        method.compile(keras.optimizers.Adam(3e-3))
        step, rng = tf.function(method.train_step), np.random.default_rng(0)
        batches = [batch_of(method, images[:16], 100 * i) for i in range(8)]
        for i in range(48):
            batch = batches[i % 8]
            if name == "random":
                batch = batch | {"permutation": tf.constant(rng.integers(0, 8, 16), tf.int32)}
            step(batch)
        held_out = [method.test_step(batch_of(method, images[16:], 9000 + 100 * i)) for i in range(4)]
        accuracy[name] = np.mean([float(logs["accuracy"]) for logs in held_out])
    assert accuracy["true"] > 0.9
    assert accuracy["random"] == pytest.approx(1 / 8, abs=0.12)


def facing_edges(tiles):
    """How badly the rims of tiles fit: for each two tiles, side by side and one below the other. `[n, 9, t, t, 1]`."""
    tiles = tiles - tiles.mean(axis=(2, 3, 4), keepdims=True)
    tiles = tiles / tiles.std(axis=(2, 3, 4), keepdims=True)
    rims = {"left": tiles[:, :, :, 0], "right": tiles[:, :, :, -1], "top": tiles[:, :, 0], "bottom": tiles[:, :, -1]}
    fits = [
        np.abs(rims[one][:, :, None] - rims[other][:, None]).mean(axis=(3, 4)).reshape(len(tiles), -1)
        for one, other in (("right", "left"), ("bottom", "top"))
    ]
    return np.concatenate(fits, axis=1)


@pytest.mark.parametrize(("tile", "low", "high"), [(64 / 75, 0.0, 0.3), (1.0, 0.9, 1.0)])
def test_rims_give_the_order_away_only_without_gaps(tile, low, high, short_range):
    """What a reader of nothing but the tiles' rims finds: little as the paper cuts tiles, all if they touch."""
    method = build(channels=1, tile=tile, channel_shift=0.0)
    batch = batch_of(method, short_range(1200))
    tiles = batch["tiles"].numpy().reshape(1200, 9, *batch["tiles"].shape[1:])
    label = batch["permutation"].numpy()
    fits = facing_edges(tiles)
    fits = (fits - fits.mean(axis=0)) / fits.std(axis=0)
    reader = LogisticRegression(C=0.03, max_iter=300).fit(fits[:900], label[:900])
    assert low <= reader.score(fits[900:], label[900:]) <= high
