"""DINOv2: its three losses by hand, targets that use all prototypes alike, the masks, what learns at which rate."""

import math

import numpy as np
import pytest
import tensorflow as tf
from kzoo_distillation.parts.koleo import koleo
from kzoo_distillation.parts.masks import at_places, mask_one_of_two

from kzoo.layers import UnitDense
from kzoo.losses import sinkhorn

SETTINGS = {"head": (16, 12), "patch_head": (16, 8), "prototypes": 12, "local_views": 2, "local_size": 16}


@pytest.fixture(scope="module")
def method(masked_method):
    return masked_method("dinov2", **SETTINGS)


@pytest.fixture(scope="module")
def batch(method, batch_of):
    return batch_of(method)


class TestKoLeo:
    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            ([[1.0, 0.0], [-3.0, 0.0]], -math.log(2)),
            (np.eye(6), -math.log(2) / 2),
            ([[math.cos(math.pi * i / 4), math.sin(math.pi * i / 4)] for i in range(8)], 0.2674),
            (np.ones((3, 5)), -math.log(1e-8)),
        ],
        ids=["opposite", "at right angles", "on a circle", "equal"],
    )
    def test_is_minus_the_log_distance_to_the_nearest(self, rows, expected):
        assert float(koleo(tf.constant(rows, tf.float32))) == pytest.approx(expected, abs=1e-3)

    def test_of_random_rows_in_many_dimensions(self):
        rows = np.random.default_rng(0).normal(size=(32, 384))
        assert float(koleo(tf.constant(rows))) == pytest.approx(-0.294, abs=0.01)

    def test_pushes_the_nearest_apart_and_is_finite_where_rows_are_equal(self):
        x = tf.Variable([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]])
        with tf.GradientTape() as tape:
            loss = koleo(x)
        moved = x - 0.01 * tape.gradient(loss, x)
        assert float(moved[0, 1] - moved[1, 1]) > 0.2
        equal = tf.Variable(np.ones((3, 4), "float32"))
        with tf.GradientTape() as tape:
            loss = koleo(equal)
        assert np.isfinite(tape.gradient(loss, equal)).all()


class TestLoss:
    def outputs(self, method, prototypes):
        classes = tf.repeat(tf.eye(4, 16), 2, axis=0)
        outputs = {"class_tokens": classes, "large": tf.zeros((8, prototypes)), "small": tf.zeros((8, prototypes))}
        outputs["patches"] = tf.zeros((4, 8, prototypes))
        taught = tf.fill((8, prototypes), 1 / prototypes), tf.fill((4, 8, prototypes), 1 / prototypes)
        batch = {"taught": taught[0], "taught_patches": taught[1], "counted": tf.range(8)[None] < [[3], [1], [8], [5]]}
        return outputs, batch

    def test_a_uniform_student_costs_one_and_a_half_log_k_and_koleo(self, masked_method):
        """Half of the large views are masked. Class tokens at right angles: 2 * -log(2) / 2, times 0.1."""
        method = masked_method("dinov2", **{**SETTINGS, "prototypes": 65536})
        found = method.loss(*self.outputs(method, 65536))
        assert float(found["koleo"]) == pytest.approx(-math.log(2), abs=1e-5)
        assert float(found["loss"]) == pytest.approx(16.6355 - 0.1 * math.log(2), abs=1e-3)

    def test_of_patches_is_the_mean_over_hidden_ones_then_over_all_large_views(self, method):
        outputs, batch = self.outputs(method, 12)
        rng = np.random.default_rng(0)
        said, taught = rng.normal(size=(4, 8, 12)), rng.dirichlet(np.ones(12), (4, 8))
        outputs["patches"], batch["taught_patches"] = tf.constant(0.1 * said, tf.float32), tf.constant(taught)
        batch["taught_patches"] = tf.cast(batch["taught_patches"], tf.float32)
        crossed = -(taught * (said - np.log(np.exp(said).sum(-1, keepdims=True)))).sum(-1)
        expected = sum(crossed[i, :n].mean() for i, n in enumerate((3, 1, 8, 5))) / 8
        assert float(method.loss(outputs, batch)["patch_loss"]) == pytest.approx(expected, rel=1e-4)


class TestTargets:
    def test_are_balanced_over_the_large_views_and_over_hidden_patches_alone(self, method, batch):
        taught = method.teach(batch, training=False)
        backbone, head, patch_head = method.teacher.models
        seen = backbone(batch["large"])
        np.testing.assert_allclose(taught["taught"], sinkhorn(head(seen["embedding"]) / 0.04), atol=1e-4)
        chosen = at_places(seen["tokens"], taught["view"], taught["places"])
        counted = np.asarray(taught["counted"])
        alone = sinkhorn(patch_head(tf.boolean_mask(chosen, counted)) / 0.04)
        np.testing.assert_allclose(tf.boolean_mask(taught["taught_patches"], counted), alone, atol=1e-4)

    def test_each_sums_to_1_and_prototypes_are_used_alike(self, method, batch):
        taught = np.asarray(method.teach(batch, training=False)["taught"])
        np.testing.assert_allclose(taught.sum(axis=1), 1.0, atol=1e-5)
        assert np.argmax(taught, axis=1).std() > 0


class TestMasks:
    def test_one_large_view_of_each_image_has_one(self):
        keys = tf.range(400, dtype=tf.int64)
        found = mask_one_of_two(keys, (14, 14), (0.1, 0.5))
        hidden = np.reshape(found["hidden"], (400, 2, 196))
        np.testing.assert_array_equal(np.argmax(hidden.any(axis=2), axis=1), found["view"])
        assert (hidden.any(axis=2).sum(axis=1) == 1).all()
        assert np.mean(found["view"]) == pytest.approx(0.5, abs=0.1)
        counts = hidden.sum(axis=(1, 2))
        assert counts.max() <= 98
        assert counts.mean() == pytest.approx(0.3 * 196, abs=3)
        assert np.percentile(counts, [10, 90]) == pytest.approx([0.14 * 196, 0.46 * 196], abs=5)

    def test_the_places_are_those_of_hidden_patches_first(self):
        found = mask_one_of_two(tf.range(20, dtype=tf.int64), (8, 8), (0.1, 0.5))
        hidden = np.reshape(found["hidden"], (20, 2, 64)).any(axis=1)
        assert found["places"].shape == (20, 32)
        for mask, places, counted in zip(hidden, found["places"].numpy(), found["counted"].numpy(), strict=True):
            np.testing.assert_array_equal(places[counted], np.flatnonzero(mask))
            assert len(set(places)) == 32

    def test_the_student_says_something_of_the_hidden_patches_of_the_masked_view(self, method, batch):
        ready = method.masked(batch)
        view, places = int(ready["view"][2]), np.asarray(ready["places"][2])
        tokens = tf.reshape(tf.range(8 * 16 * 16, dtype=tf.float32), (8, 16, 16))
        found = at_places(tokens, ready["view"], ready["places"])
        np.testing.assert_array_equal(found[2], tokens.numpy()[2 * 2 + view][places])


class TestStep:
    def test_the_teacher_follows_after_the_step(self, masked_method, batch_of):
        method = masked_method("dinov2", **{**SETTINGS, "momentum": 0.9, "freeze_epochs": 0})
        before = [np.array(ours) for ours, _ in method.teacher.pairs]
        method.train_step(batch_of(method))
        for was, (ours, theirs) in zip(before, method.teacher.pairs, strict=True):
            np.testing.assert_allclose(ours, 0.9 * was + 0.1 * np.array(theirs), atol=1e-6)
        students = {id(theirs) for _, theirs in method.teacher.pairs}
        heads = [*method.backbone.trainable_variables, *method.head.trainable_variables]
        assert students == {id(variable) for variable in (*heads, *method.patch_head.trainable_variables)}

    def test_rates_and_what_waits(self, method):
        groups = method.optimizer_groups()
        held = [variable.path.split("/")[-1] for variable in groups["prototypes"].variables]
        assert sorted(held) == ["gain", "gain", "kernel", "kernel"]
        assert groups["prototypes"].frozen_until_epoch == 1
        slow = groups["patch_projection"]
        assert slow.lr_scale == 0.2
        assert [variable.path for variable in slow.variables] == ["patches/kernel", "patches/bias"]


def test_a_gain_scales_each_prototype_and_comes_back():
    layer = UnitDense(3, gain=True)
    x = tf.constant([[3.0, 4.0]])
    one = layer(x)
    layer.gain.assign([1.0, 2.0, -1.0])
    np.testing.assert_allclose(layer(x), one * [[1.0, 2.0, -1.0]], atol=1e-6)
    assert UnitDense.from_config(layer.get_config()).has_gain
    assert not UnitDense(3).has_gain
