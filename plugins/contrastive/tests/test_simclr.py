"""SimCLR against the closed forms of its paper."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization
from kzoo.testing import fakes


def images(count=16, size=16, channels=3, seed=0):
    return fakes.images(count, size, channels, seed, cell=4)


def build(name, size=16, channels=3, **options):
    return fakes.build(name, backbone="convnet4", shape=(size, size, channels), **options)


def batch_of(method, count=16, seed=0):
    return fakes.batch_of(method, images(count), seed)


def changed(method, before):
    return {id(v) for v, old in zip(method.variables, before, strict=True) if not np.array_equal(v, old)}


def identities(variables):
    return {id(v) for v in variables}  # a teacher's variables have the names of the student's


def values(method):
    return [np.array(v) for v in method.variables]


class TestSimCLR:
    def test_views_differ_between_themselves_and_examples_and_repeat_under_a_seed(self):
        method = build("simclr")
        raw = {"image": tf.constant(np.repeat(images(1), 4, axis=0))}
        seed = tf.range(4, dtype=tf.int64)
        ready = method.pretext(raw, seed, method.options)
        for view in ("view_0", "view_1"):
            assert ready[view].shape == (4, 16, 16, 3)
            assert 0 <= float(tf.reduce_min(ready[view])) <= float(tf.reduce_max(ready[view])) <= 1
        assert np.abs(ready["view_0"] - ready["view_1"]).mean() > 0.01
        assert np.abs(ready["view_0"][0] - ready["view_0"][1]).mean() > 0.01
        np.testing.assert_array_equal(ready["view_1"], method.pretext(raw, seed, method.options)["view_1"])

    def test_the_head_is_the_papers(self):
        head = build("simclr").projector.layers
        kinds = [type(layer) for layer in head]
        assert kinds == [
            keras.layers.Dense,
            BatchNormalization,
            keras.layers.ReLU,
            keras.layers.Dense,
            BatchNormalization,
        ]
        assert not head[0].use_bias
        assert not head[3].use_bias
        assert (head[0].units, head[3].units) == (2048, 128)
        assert not head[4].center
        assert head[4].scale
        assert float(np.std(head[0].kernel)) == pytest.approx(0.01, rel=0.05)

    def test_both_views_share_one_batch_normalisation(self):
        """One forward pass of 2B: the mean of the output over both views is 0, not over each."""
        method = build("simclr")
        outputs = method.forward(batch_of(method), training=True)
        both = np.concatenate([outputs["z_0"], outputs["z_1"]])
        np.testing.assert_allclose(both.mean(axis=0), np.zeros(128), atol=1e-4)
        assert np.abs(outputs["z_0"].numpy().mean(axis=0)).max() > 1e-3

    def test_collapsed_projections_cost_log_of_the_others(self):
        method = build("simclr")
        same = tf.ones((16, 128))
        logs = method.loss({"z_0": same, "z_1": same}, {})
        assert float(logs["loss"]) == pytest.approx(math.log(31), abs=1e-4)

    def test_orthogonal_negatives_and_equal_positives_cost_the_closed_form(self):
        """log(1 + (2N - 2) e^(-1 / t)); N = 512, t = 0.5: 4.9367."""
        method = build("simclr", temperature=0.5)
        eye = tf.eye(512)
        assert float(method.loss({"z_0": eye, "z_1": eye}, {})["loss"]) == pytest.approx(4.9367, abs=1e-3)

    def test_decoupled_the_positive_leaves_the_denominator(self):
        """All logits equal: log(2B - 2); orthogonal negatives, equal positives: log(2B - 2) - 1 / t."""
        method = build("simclr", temperature=0.5, decoupled=True)
        same, eye = tf.ones((16, 128)), tf.eye(16)
        assert float(method.loss({"z_0": same, "z_1": same}, {})["loss"]) == pytest.approx(math.log(30), abs=1e-4)
        easy = float(method.loss({"z_0": eye, "z_1": eye}, {})["loss"])
        assert easy == pytest.approx(math.log(30) - 2, abs=1e-4)

    def test_views_and_scale_and_order_of_the_batch_do_not_matter(self):
        method = build("simclr")
        z_0, z_1 = (np.random.default_rng(seed).normal(size=(16, 8)).astype("float32") for seed in (0, 1))
        loss = float(method.loss({"z_0": z_0, "z_1": z_1}, {})["loss"])
        order = np.random.default_rng(2).permutation(16)
        for a, b in ((z_1, z_0), (3 * z_0, z_1), (z_0[order], z_1[order])):
            assert float(method.loss({"z_0": a, "z_1": b}, {})["loss"]) == pytest.approx(loss, rel=1e-5)

    def test_gradient_reaches_backbone_and_head(self):
        method = build("simclr")
        method.compile(keras.optimizers.SGD(0.1))
        before = values(method)
        method.train_step(batch_of(method))
        assert identities(method.trainable_variables) <= changed(method, before)

    def test_learns_one_batch(self):
        method = build("simclr", temperature=0.5, projector=(64, 32))
        method.compile(keras.optimizers.Adam(3e-3))
        step, batch = tf.function(method.train_step), batch_of(method)
        first = float(step(batch)["loss"])
        for _ in range(60):
            last = step(batch)
        bound = math.log(1 + 30 * math.exp(-2 / 0.5 * 16 / 31))  # near what evenly spread negatives allow
        assert float(last["loss"]) < bound + 0.35 * (first - bound)
        assert float(last["accuracy"]) == 1.0

    def test_works_on_grey_images_of_another_size(self):
        method = build("simclr", size=28, channels=1)
        method.compile(keras.optimizers.SGD(0.1))
        ids = tf.range(8, dtype=tf.int64)
        batch = method.transform({"image": tf.constant(images(8, 28, 1)), "id": ids}, ids)
        assert batch["view_0"].shape == (8, 28, 28, 1)
        assert np.isfinite(float(method.train_step(batch)["loss"]))

    def test_version_2_keeps_the_first_layer_of_three(self):
        method = build("simclr", projector=(48, 32, 16), keep=1)
        raw = images(4)
        x = method.backbone(raw / np.float32(255), training=False)["embedding"]
        for layer in method.projector.layers[:3]:  # Dense, batch normalisation, ReLU
            x = layer(x)
        np.testing.assert_allclose(method(raw), x, atol=1e-5)
        assert method.encoder.output["embedding"].shape == (None, 48)
        plain = build("simclr")
        assert plain.encoder is plain.backbone

    def test_the_last_layer_of_the_projector_cannot_be_kept(self):
        with pytest.raises(OptionsError, match="the projector has 2 layers, of which the last cannot be kept"):
            build("simclr", keep=2)

    def test_shows_which_view_each_view_finds(self):
        method = build("simclr")
        batch = batch_of(method, 6)
        shown = method.visualise({}, {**batch, "view_1": tf.reverse(batch["view_0"], [0])})
        chosen = shown["view 1 chosen"]  # the partner of each is the view of another, and that is what it finds
        np.testing.assert_array_equal(chosen, batch["view_0"])
        assert shown[""] == ["wrong"] * 6
