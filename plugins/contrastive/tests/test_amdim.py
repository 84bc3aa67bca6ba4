"""AMDIM and its encoder against the closed forms of the paper and of its released code."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_contrastive.parts.local_scores import location_nce, own_image, pair_scores

import kzoo
from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization
from kzoo.testing import fakes
from kzoo.testing.fakes import batch_of

WIDTH, RKHS = 4, 24


def encoder(size=32, channels=3, **options):
    values = {"width": WIDTH, "rkhs": RKHS, "depth": 2, **options}
    return kzoo.build_backbone("amdim_encoder", input_shape=(size, size, channels), **values)


def build(**options):
    return fakes.build("amdim", backbone=lambda _: encoder(), **options)


def images(count=6, size=32, channels=3, seed=0):
    return fakes.images(count, size, channels, seed, cell=8)


@pytest.fixture(scope="module")
def method():
    return build(crop="shift")


def features(count, value=0.0, width=RKHS):
    shapes = {"global": (), "coarse": (5, 5), "fine": (7, 7)}
    return {
        f"{name}_{view}": tf.fill((count, *sides, width), value) for name, sides in shapes.items() for view in (0, 1)
    }


class TestEncoder:
    @pytest.mark.parametrize(
        ("size", "channels", "sides"),
        [
            (32, 3, [30, 30, 14, 7, 5, 3, 1]),
            (64, 1, [62, 30, 14, 7, 5, 3, 1]),
            (128, 3, [64, 62, 30, 14, 7, 5, 3, 1]),
        ],
    )
    def test_maps_of_7_5_and_1(self, size, channels, sides):
        model = encoder(size, channels)
        deep = (4 if size == 32 else 8) * WIDTH
        assert model.output["map_1"].shape[1:] == (7, 7, deep)
        assert model.output["map"].shape[1:] == (5, 5, deep)
        assert model.output["embedding"].shape[1:] == (RKHS,)
        changes = [
            layer.output.shape[1] for layer in model.layers if isinstance(layer, keras.layers.Add | keras.layers.ReLU)
        ]
        seen = [side for side, before in zip(changes, [None, *changes[:-1]], strict=True) if side != before]
        assert seen == sorted(set(sides), reverse=True)

    def test_nothing_is_padded(self):
        """A location of the 7x7 map sees 14 pixels, in steps of 2 x 2: the first does not see row and column 14."""
        model = encoder(zero_init_residual=False)
        x = tf.Variable(np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype("float32"))
        with tf.GradientTape() as tape:
            corner = tf.reduce_sum(model(x)["map_1"][:, 0, 0])
        seen = np.any(np.array(tape.gradient(corner, x)) != 0, axis=(0, 3))
        # stem 3x3; block_1 4x4 with stride 2: 6 pixels; block_2 2x2 with stride 2: 8
        assert seen[:8, :8].all()
        assert not seen[8:].any()
        assert not seen[:, 8:].any()

    def test_a_unit_starts_as_its_shortcut(self):
        """At the start every residual branch is 0: average pooling and zero channels are all that happens."""
        model = encoder()
        unit = keras.Model(model.input, [model.get_layer("stem_unit_add").output, model.output["map_1"]])
        stem, seven = unit(tf.constant(images(2) / np.float32(255)))
        pooled = tf.nn.avg_pool2d(tf.nn.avg_pool2d(stem, 4, 2, "VALID"), 2, 2, "VALID")
        np.testing.assert_allclose(seven[..., :WIDTH], pooled, rtol=1e-5, atol=1e-6)
        assert not np.any(seven[..., WIDTH:])
        assert np.any(encoder(zero_init_residual=False)(images(2) / np.float32(255))["map_1"][..., WIDTH:])

    def test_batch_normalisation_only_where_asked(self):
        def norms(model):
            return [layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]

        assert norms(encoder()) == ["embedding_norm"]
        assert {"map_7_norm", "embedding_norm", "stem_norm"} < set(norms(encoder(batch_norm=True)))

    def test_embedding_is_normalised_over_the_batch(self):
        x = 100 * np.random.default_rng(0).uniform(size=(32, 32, 32, 3)).astype("float32")  # so that epsilon is nothing
        f1 = np.array(encoder(zero_init_residual=False)(x, training=True)["embedding"])
        np.testing.assert_allclose(f1.mean(axis=0), np.zeros(RKHS), atol=1e-3)
        np.testing.assert_allclose(f1.var(axis=0), np.ones(RKHS), atol=0.03)

    def test_a_narrow_embedding_has_a_convolution_as_shortcut(self):
        model = encoder(rkhs=8)
        assert isinstance(model.get_layer("to_rkhs_shortcut"), keras.layers.Conv2D)
        assert model.output["embedding"].shape[1:] == (8,)

    def test_first_layers_are_initialised_as_torch_does(self):
        kernel = np.array(encoder(width=64).get_layer("block_1_1_conv_1").kernel)
        limit = 1 / math.sqrt(16 * 64)
        assert np.abs(kernel).max() <= limit
        assert kernel.std() == pytest.approx(limit / math.sqrt(3), rel=0.02)

    @pytest.mark.parametrize("size", [40, 96])
    def test_refuses_other_sizes(self, size):
        with pytest.raises(OptionsError, match=rf"32, 64 or 128 px. Received: {size}x{size}; set method.options.size"):
            encoder(size)


class TestPretext:
    def test_both_views_share_one_flip(self):
        """Without any other change the two views are equal, and about half of all examples are mirrored."""
        view = {"jitter_p": 0.0, "greyscale_p": 0.0, "scale": (1.0, 1.0)}
        method = build(view=view)
        still = images(64)
        # a crop of the whole image, whatever its aspect ratio, is the whole image
        ready = method.pretext({"image": tf.constant(still)}, tf.range(64, dtype=tf.int64), method.options)
        np.testing.assert_array_equal(ready["view_0"], ready["view_1"])
        plain = still / np.float32(255)
        mirrored = [not np.allclose(a, b, atol=1e-5) for a, b in zip(ready["view_0"], plain, strict=True)]
        assert 16 < sum(mirrored) < 48
        for one, picture, flipped in zip(ready["view_0"], plain, mirrored, strict=True):
            np.testing.assert_allclose(one, picture[:, ::-1] if flipped else picture, atol=1e-5)

    def test_shift_moves_eight_in_ten_by_up_to_an_eighth(self):
        method = build(crop="shift", view={"jitter_p": 0.0, "greyscale_p": 0.0, "flip": 0.0})
        pixels = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3)).astype("uint8")
        ready = method.pretext({"image": tf.constant(pixels)}, tf.range(200, dtype=tf.int64), method.options)
        still = [np.allclose(a, b / 255, atol=1e-5) for a, b in zip(ready["view_0"], pixels, strict=True)]
        assert 0.12 < np.mean(still) < 0.3  # 0.2 + 0.8 / 81
        first = np.array(ready["view_0"][np.argmin(still)])
        padded = np.pad(pixels[np.argmin(still)] / np.float32(255), ((4, 4), (4, 4), (0, 0)), mode="reflect")
        shifts = [padded[y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
        assert any(np.allclose(first, shift, atol=1e-5) for shift in shifts)

    def test_views_differ_and_repeat_under_a_seed(self, method):
        same = np.repeat(images(1), 4, axis=0)
        one, two = batch_of(method, same), batch_of(method, same)
        assert np.abs(one["view_0"] - one["view_1"]).mean() > 0.01
        assert np.abs(one["view_0"][0] - one["view_0"][1]).mean() > 0.01
        np.testing.assert_array_equal(one["view_1"], two["view_1"])

    def test_images_of_28_px_become_32(self):
        method = build(crop="shift", size=32)
        pixels = np.zeros((2, 28, 28, 3), "uint8")
        assert batch_of(method, pixels)["view_0"].shape == (2, 32, 32, 3)


class TestLoss:
    @pytest.mark.parametrize(("count", "expected"), [(200, 26.2100), (2, 10.4282)])
    def test_zero_features(self, method, count, expected):
        logs = method.loss(features(count), {"seed": tf.range(count, dtype=tf.int64)})
        assert float(logs["loss"]) == pytest.approx(expected, abs=1e-3)
        assert float(logs["regulariser"]) == 0.0
        assert float(logs["information"]) == pytest.approx(method.chance()["information"], abs=1e-4)
        assert float(logs["global_fine"]) == pytest.approx(math.log1p(49 * (count - 1)), abs=1e-4)

    def test_clipped_scores_stay_within_the_clip_and_large_features_cost_a_finite_loss(self, method):
        scores = tf.constant([-1e6, -3.0, 0.0, 1e-3, 1e6])
        clipped = np.array(method._clip_scores(scores))
        assert np.abs(clipped).max() <= 20
        np.testing.assert_allclose(clipped[1:4], 20 * np.tanh([-0.15, 0, 5e-5]), atol=1e-6)
        logs = method.loss(features(4, 1e3), {"seed": tf.range(4, dtype=tf.int64)})
        assert np.isfinite(float(logs["loss"]))

    def test_the_regulariser_is_of_scores_before_the_clip(self, method):
        # each score is 24 * 10 * 10 / sqrt(24): all equal, so that the tasks cost what they do with zero features
        logs = method.loss(features(2, 10.0), {"seed": tf.range(2, dtype=tf.int64)})
        assert float(logs["regulariser"]) == pytest.approx(3 * 0.04 * 100**2 * RKHS, rel=1e-5)
        tasks = [float(logs[name]) for name in ("global_coarse", "global_fine", "coarse_coarse")]
        assert sum(tasks) == pytest.approx(10.4282, abs=1e-3)
        assert float(logs["loss"]) == pytest.approx(sum(tasks) + float(logs["regulariser"]), rel=1e-5)

    def test_floor_is_the_clips(self):
        """Own locations at +20, all others at -20: log(1 + (B - 1) L e^-40), which is 0 in float32."""
        scores = tf.fill((8, 8, 25), -20.0) + 40.0 * tf.eye(8)[:, :, None]
        found = location_nce(scores)
        assert float(found["loss"]) == pytest.approx(0.0, abs=1e-12)
        assert float(found["accuracy"]) == 1.0
        # negative control: the same scores with the images exchanged
        assert float(location_nce(tf.reverse(scores, [1]))["loss"]) > 40

    def test_other_locations_of_an_image_are_neither_positives_nor_negatives(self):
        generator = np.random.default_rng(0)
        scores = generator.normal(size=(3, 3, 4))
        found = float(location_nce(tf.constant(scores))["loss"])
        by_hand = []
        for i in range(3):
            others = np.exp(np.delete(scores[i], i, axis=0)).sum()
            by_hand += [-math.log(math.exp(s) / (math.exp(s) + others)) for s in scores[i, i]]
        assert found == pytest.approx(np.mean(by_hand), abs=1e-9)

    def test_scores_are_dot_products_of_each_pair(self):
        generator = np.random.default_rng(0)
        vectors, maps = generator.normal(size=(3, 5)), generator.normal(size=(3, 2, 2, 5))
        scores = pair_scores(tf.constant(vectors), tf.constant(maps))
        np.testing.assert_allclose(scores, np.einsum("id,jhwd->ijhw", vectors, maps).reshape(3, 3, 4))
        np.testing.assert_array_equal(own_image(scores), [0, 1, 2])

    def test_swapping_the_views_leaves_the_loss(self, method, monkeypatch):
        monkeypatch.setattr(type(method), "_random_cell", staticmethod(lambda maps, seed: maps[:, 2, 3]))
        outputs = method.forward(batch_of(method, images()), training=True)
        swapped = {f"{name[:-1]}{1 - int(name[-1])}": value for name, value in outputs.items()}
        batch = {"seed": tf.range(6, dtype=tf.int64)}
        assert float(method.loss(outputs, batch)["loss"]) == pytest.approx(
            float(method.loss(swapped, batch)["loss"]), rel=1e-5
        )

    def test_the_source_cell_is_drawn_per_image(self, method):
        maps = tf.reshape(tf.range(25.0), (1, 5, 5, 1)) + 100 * tf.range(400.0)[:, None, None, None]
        cells = np.array(method._random_cell(maps, tf.range(400, dtype=tf.int64)))[:, 0]
        assert (cells // 100 == np.arange(400)).all()
        assert len(set(cells % 100)) == 25


class TestTraining:
    def test_heads_start_near_the_identity(self, method):
        head = method.heads["fine"]
        assert not np.any(head.get_layer("residual").kernel)
        kernel = np.array(head.get_layer("shortcut").kernel)
        np.testing.assert_array_equal(np.diag(kernel), np.ones(4 * WIDTH))
        off = kernel[~np.eye(*kernel.shape, dtype=bool)]
        assert 0 < np.abs(off).max() <= 0.01
        assert isinstance(head.layers[-1], BatchNormalization)

    def test_learns_one_batch_and_every_weight_moves(self):
        method = kzoo.build_method("amdim", backbone=encoder(depth=1), crop="shift")
        method.compile(keras.optimizers.Adam(3e-3, beta_1=0.8))
        before = [np.array(v) for v in method.trainable_variables]
        step, batch = tf.function(method.train_step), batch_of(method, images(8))
        first = step(batch)
        for _ in range(100):
            last = step(batch)
        still = [v.path for v, old in zip(method.trainable_variables, before, strict=True) if np.array_equal(v, old)]
        assert not still
        assert float(last["global_coarse"]) < 0.5 * float(first["global_coarse"])
        assert float(last["information"]) > 2

    def test_a_backbone_without_the_maps_is_refused_in_one_line(self):
        backbone = kzoo.build_backbone("small_resnet", input_shape=(32, 32, 3), width=4)
        with pytest.raises(
            OptionsError, match=r"'small_resnet' has no 5x5 map, but map 8x8, map_1 32x32, map_2 16x16;"
        ):
            kzoo.build_method("amdim", backbone=backbone)
        method = kzoo.build_method("amdim", backbone=backbone, local_sides=(8, 16))
        outputs = method.forward(batch_of(method, images(2)), training=False)
        assert outputs["coarse_0"].shape == (2, 8, 8, 16)
        assert outputs["fine_1"].shape == (2, 16, 16, 16)

    def test_answers_rank_an_image_among_those_shown(self, method, monkeypatch):
        """Vectors of 1 in a place of their own, and maps that hold them here and there: each rank is chosen."""
        mine = np.eye(3, 4, dtype="float32")
        maps = np.zeros((3, 7, 7, 4), "float32")
        maps[0, 2, 3] = mine[0] + mine[2]  # image 0 finds itself there and nowhere else
        maps[1, 4, 4] = mine[2]
        maps[2, 5, 1] = mine[1]  # image 1 only in image 2; image 2 in both others, not in itself
        outputs = {"global_0": tf.constant(mine), "fine_1": tf.constant(maps)}
        monkeypatch.setattr(method, "forward", lambda batch, training: outputs)
        pictures = images(3)
        shown = method.visualise({"image": pictures}, batch_of(method, pictures))
        expected = np.zeros((3, 7, 7, 1))
        expected[0, 2, 3] = 1.0
        np.testing.assert_allclose(shown["where view 0 is found"], expected, atol=1e-6)
        assert shown["its rank"] == ["1 of 3", "2 of 3", "3 of 3"]
