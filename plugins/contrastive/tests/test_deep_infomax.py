"""Deep InfoMax, its estimators and its encoder against the closed forms of the paper."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_contrastive.deep_infomax import ESTIMATORS, donsker_varadhan, jensen_shannon
from kzoo_contrastive.parts.local_scores import location_nce

import kzoo
from kzoo import replicas
from kzoo.errors import OptionsError
from kzoo.testing import fakes
from kzoo.testing.fakes import batch_of

SMALL = {"units": 16, "fc_width": 32, "code_width": 8}


def backbone(size=32, channels=3, **options):
    return kzoo.build_backbone("deep_infomax_encoder", input_shape=(size, size, channels), **{"width": 4, **options})


def build(**options):
    keras.utils.set_random_seed(0)
    return kzoo.build_method("deep_infomax", backbone=backbone(), **{**SMALL, "local": "map_2", **options})


def images(count=8, size=32, channels=3, seed=0):
    return fakes.images(count, size, channels, seed, cell=8)


def random_scores(images=4, locations=3, seed=0):
    return np.random.default_rng(seed).normal(size=(images, images, locations))


def pairs(scores):
    """Positives `[N, L]` and negatives `[N (N - 1) L]`."""
    rows = np.arange(len(scores))
    return scores[rows, rows], np.concatenate([np.delete(scores[i], i, axis=0).ravel() for i in rows])


@pytest.fixture(scope="module")
def method():
    return build(global_weight=1.0)


class TestEstimators:
    @pytest.mark.parametrize(("name", "expected"), [("jsd", 0.0), ("dv", 0.0), ("info_nce", math.log(1 + 63 * 64))])
    def test_scores_of_zero(self, name, expected):
        found = ESTIMATORS[name](tf.zeros((64, 64, 64)))
        assert float(found["loss"]) == pytest.approx(expected, abs=1e-4)
        assert float(found["information"]) == pytest.approx(0.0, abs=1e-4)

    def test_jensen_shannon_by_hand(self):
        scores = random_scores()
        positive, negative = pairs(scores)
        expected = np.mean(np.log1p(np.exp(-negative)) + negative - math.log(2)) - np.mean(
            math.log(2) - np.log1p(np.exp(-positive))
        )
        assert float(jensen_shannon(tf.constant(scores))["loss"]) == pytest.approx(expected, abs=1e-9)

    def test_jensen_shannon_is_bounded_by_twice_log_2(self):
        perfect = tf.fill((8, 8, 4), -50.0) + 100.0 * tf.eye(8)[:, :, None]
        assert float(jensen_shannon(perfect)["loss"]) == pytest.approx(-2 * math.log(2), abs=1e-5)

    def test_donsker_varadhan_by_hand(self):
        """Counted over all N (N - 1) L negatives; over N (N - 1), as the released code has it, it is log L off."""
        scores = random_scores()
        positive, negative = pairs(scores)
        expected = np.log(np.mean(np.exp(negative))) - positive.mean()
        found = float(donsker_varadhan(tf.constant(scores))["loss"])
        assert found == pytest.approx(expected, abs=1e-9)
        theirs = np.log(np.exp(negative).sum()) - math.log(4 * 3) - positive.mean()
        assert theirs - found == pytest.approx(math.log(3), abs=1e-9)

    def test_donsker_varadhan_does_not_see_a_constant(self):
        scores = tf.constant(random_scores())
        one, two = (float(donsker_varadhan(scores + c)["loss"]) for c in (0.0, 7.5))
        assert one == pytest.approx(two, abs=1e-9)
        other = float(jensen_shannon(scores + 7.5)["loss"] - jensen_shannon(scores)["loss"])
        assert abs(other) > 1  # negative control

    def test_donsker_varadhan_on_parts_of_the_batch(self, monkeypatch):
        """Two replicas with half of the rows each: both find the value of the whole."""
        scores = random_scores(4)
        whole = float(donsker_varadhan(tf.constant(scores))["loss"])
        _, negative = pairs(scores)
        found = []
        for index in (0, 1):
            own, halves = slice(2 * index, 2 * index + 2), np.split(negative, 2)
            sums = tf.constant([np.log(np.exp(half).sum()) for half in halves])
            monkeypatch.setattr(replicas, "index", lambda index=index: index)
            monkeypatch.setattr(replicas, "gather", lambda x, sums=sums: sums)
            found.append(float(donsker_varadhan(tf.constant(scores[own]))["loss"]))
        assert np.mean(found) == pytest.approx(whole, abs=1e-9)

    def test_own_locations_are_no_negatives(self):
        """An image's other locations change nothing but their own term."""
        scores = random_scores()
        for estimate in (location_nce, jensen_shannon, donsker_varadhan):
            with tf.GradientTape() as tape:
                x = tf.constant(scores)
                tape.watch(x)
                loss = estimate(x)["loss"]
            positive, negative = pairs(np.array(tape.gradient(loss, x)))
            assert (positive < 0).all()
            assert (negative > 0).all()


class TestPrior:
    def test_a_discriminator_at_one_half(self, method):
        """Loss 2 log 2, and log 2 for the encoder."""
        kept = method.discriminator.get_weights()
        method.discriminator.set_weights([np.zeros_like(w) for w in kept])
        batch = {"code": tf.ones((4, 8)), "seed": tf.range(4, dtype=tf.int64)}
        assert float(method.discriminator_loss(batch)["loss"]) == pytest.approx(2 * math.log(2), abs=1e-6)
        logs = method.loss(method.forward(batch_of(method, images(4)), training=False), {})
        assert float(logs["prior_loss"]) == pytest.approx(math.log(2), abs=1e-6)
        method.discriminator.set_weights(kept)

    def test_the_discriminator_is_1000_200_1_on_numbers_between_0_and_1(self, method, monkeypatch):
        assert [layer.units for layer in method.discriminator.layers] == [1000, 200, 1]
        seen = []
        monkeypatch.setattr(method, "discriminator", lambda x: (seen.append(np.array(x)), tf.zeros((len(x), 1)))[1])
        codes = 100 * np.random.default_rng(0).normal(size=(500, 8)).astype("float32")
        method.discriminator_loss({"code": tf.constant(codes), "seed": tf.range(500, dtype=tf.int64)})
        noise, fake = seen
        np.testing.assert_allclose(fake, 1 / (1 + np.exp(-codes.astype("float64"))), atol=1e-5)
        assert noise.min() >= 0
        assert noise.max() < 1
        assert noise.mean() == pytest.approx(0.5, abs=0.02)
        assert noise.var() == pytest.approx(1 / 12, abs=0.01)

    def test_each_optimizer_moves_its_own_variables_only(self, method):
        groups = method.optimizer_groups()
        assert list(groups) == ["main", "discriminator"]
        identities = [{id(v) for v in group.variables} for group in groups.values()]
        assert not identities[0] & identities[1]
        assert identities[0] | identities[1] == {id(v) for v in method.trainable_variables}
        method.compile(keras.optimizers.SGD(0.1))
        seen = {"code": tf.ones((4, 8)), "seed": tf.range(4, dtype=tf.int64)}
        before = [np.array(v) for v in method.variables]
        method.minimise(seen, loss=method.discriminator_loss, groups="discriminator")
        moved = {id(v) for v, old in zip(method.variables, before, strict=True) if not np.array_equal(v, old)}
        assert moved - {id(v) for v in method.optimizers["discriminator"].variables} == identities[1]

    def test_without_a_prior_there_is_no_discriminator(self):
        method = build(prior_weight=0.0)
        assert list(method.optimizer_groups()) == ["main"]
        assert not any("discriminator" in v.path for v in method.variables)
        method.compile("sgd")
        assert "prior_loss" not in method.train_step(batch_of(method, images(4)))

    def test_codes_are_drawn_to_the_uniform_distribution(self):
        method = build(prior_weight=1.0, local_weight=1e-6)
        method.compile(keras.optimizers.Adam(2e-3))
        step, batch = tf.function(method.train_step), batch_of(method, images(32))
        offset = np.full(8, 4.0, "float32")  # codes that begin near 1 after the sigmoid
        method.encoder.get_layer("code").bias.assign(offset)

        def mean():
            return float(tf.reduce_mean(tf.sigmoid(method.forward(batch, training=True)["code"])))

        assert mean() > 0.9
        for number in range(150):
            step({**batch, "seed": batch["seed"] + 1000 * number})
        assert mean() < 0.75


class TestMethod:
    def test_representations_are_conv_fc_and_code(self, method):
        assert {name: value.shape[1:] for name, value in method.encoder.output.items()} == {
            "embedding": (16 * 4 * 4,),
            "map_1": (16, 16, 4),
            "map_2": (8, 8, 8),
            "map": (4, 4, 16),
            "fc": (32,),
            "code": (8,),
        }

    def test_score_networks(self, method):
        network = method.local_scores[0]
        kernel = np.array(network.get_layer("shortcut").kernel)
        np.testing.assert_array_equal(np.diag(kernel), np.ones(8))
        assert 0 < np.abs(kernel[~np.eye(8, 16, dtype=bool)]).max() <= 0.01
        assert not network.get_layer("hidden").use_bias
        assert network.get_layer("residual").use_bias
        assert not network.get_layer("shortcut").use_bias
        out = np.array(network(np.random.default_rng(0).normal(size=(2, 8, 8, 8)), training=True))
        np.testing.assert_allclose(out.mean(axis=-1), np.zeros((2, 8, 8)), atol=1e-5)  # layer norm over channels
        np.testing.assert_allclose(out.std(axis=-1), np.ones((2, 8, 8)), atol=1e-3)

    def test_global_scores_take_the_whole_map_as_one_location(self, method):
        outputs = method.forward(batch_of(method, images(3)), training=False)
        assert outputs["global_map"].shape == (3, 1, 1, 16)
        assert outputs["local_map"].shape == (3, 8, 8, 16)

    def test_global_scores_of_the_map_are_those_of_a_second_rest_of_the_encoder(self, method):
        """As in the released code: the layers after the local map, with weights of their own, then a linear one."""
        rest, of_code = method.global_scores
        assert rest.input_shape == (None, 8, 8, 8)
        layers = [type(layer).__name__ for layer in rest.layers[1:]]
        assert layers == ["ZeroPadding2D", "Conv2D", "BatchNormalization", "ReLU", "Flatten", "Dense"]
        assert not {id(v) for v in rest.variables} & {id(v) for v in method.backbone.variables}
        kernel, theirs = rest.get_layer("conv_3").kernel, method.backbone.get_layer("conv_3").kernel
        assert kernel.shape == theirs.shape
        assert not np.array_equal(kernel, theirs)
        code = np.random.default_rng(0).normal(size=(3, of_code.kernel.shape[0])).astype("float32")
        np.testing.assert_allclose(of_code(code), code @ np.array(of_code.kernel), atol=1e-5)

    def test_loss_is_the_weighted_sum(self):
        method = build(global_weight=0.5, local_weight=2.0, prior_weight=0.25)
        logs = method.loss(method.forward(batch_of(method, images(4)), training=False), {})
        expected = 2 * logs["local_loss"] + 0.5 * logs["global_loss"] + 0.25 * logs["prior_loss"]
        assert float(logs["loss"]) == pytest.approx(float(expected), rel=1e-5)

    def test_learns_one_batch_and_every_weight_moves(self):
        method = build(estimator="info_nce", global_weight=1.0, units=32)
        method.compile(keras.optimizers.Adam(3e-3))
        before = [np.array(v) for v in method.trainable_variables]
        step, batch = tf.function(method.train_step), batch_of(method, images(16))
        first = step(batch)
        for _ in range(80):
            last = step(batch)
        still = [v.path for v, old in zip(method.trainable_variables, before, strict=True) if np.array_equal(v, old)]
        assert not still
        assert float(last["global_loss"]) < 0.02 * float(first["global_loss"])
        assert float(last["information"]) > 0.2  # of the local term; many places of these pictures look alike

    def test_flip_and_crop(self):
        ramp = np.tile(np.arange(32, dtype="uint8")[None, None, :, None] * 8, (64, 32, 1, 3))
        plain = batch_of(build(), ramp)["image"].numpy()
        np.testing.assert_allclose(plain, ramp / np.float32(255), atol=1e-6)
        flipped = batch_of(build(flip=0.5), ramp)["image"].numpy()
        rising = flipped[:, 0, 0, 0] < flipped[:, 0, -1, 0]
        assert 16 < rising.sum() < 48
        cropped = batch_of(build(crop=0.5), ramp)["image"].numpy()
        assert np.ptp(cropped[:, 0, :, 0], axis=1).max() == pytest.approx(15 * 8 / 255, abs=1e-5)

    def test_refuses_a_map_that_is_not_there_and_nothing_to_learn(self):
        with pytest.raises(OptionsError, match=r"has no map 'map_9'; it has: map, map_1, map_2"):
            build(local="map_9")
        with pytest.raises(OptionsError, match=r"has no map 'embedding'"):
            build(local="embedding")
        with pytest.raises(OptionsError, match="local_weight and global_weight are both 0"):
            build(local_weight=0.0)

    def test_answers_show_where_a_code_finds_itself(self, method, monkeypatch):
        """Vectors of 1 in a place of their own, and maps that hold them here and there: each rank is chosen."""
        mine = np.eye(3, 4, dtype="float32")
        maps = np.zeros((3, 8, 8, 4), "float32")
        maps[0, 2, 3] = mine[0] + mine[2]  # image 0 finds itself there and nowhere else
        maps[1, 4, 4] = mine[2]
        maps[2, 5, 1] = mine[1]  # image 1 only in image 2; image 2 in both others, not in itself
        outputs = {"local_code": tf.constant(mine), "local_map": tf.constant(maps)}
        monkeypatch.setattr(method, "forward", lambda batch, training: outputs)
        pictures = images(3)
        shown = method.visualise({"image": pictures}, batch_of(method, pictures))
        expected = np.zeros((3, 8, 8, 1))
        expected[0, 2, 3] = 1.0
        np.testing.assert_allclose(shown["score by location"], expected, atol=1e-6)
        assert shown["its rank"] == ["1 of 3", "2 of 3", "3 of 3"]


class TestEncoder:
    @pytest.mark.parametrize(("size", "widths", "sides"), [(32, (4, 8, 16), (16, 8, 4)), (64, (8, 16, 32), (16, 8, 4))])
    def test_maps_are_the_papers(self, size, widths, sides):
        model = backbone(size)
        maps = [model.output[name].shape[1:] for name in ("map_1", "map_2", "map")]
        assert maps == [(side, side, width) for side, width in zip(sides, widths, strict=True)]
        assert model.output["embedding"].shape[1] == 16 * widths[-1]
        count = {32: 3, 64: 4}[size]
        assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == count

    def test_28_px_in_grey_and_too_few(self):
        assert backbone(28, 1).output["map"].shape[1:] == (3, 3, 16)
        with pytest.raises(OptionsError, match=r"16 x 16 pixels are too small for .*, which takes 24 and up"):
            backbone(16)
