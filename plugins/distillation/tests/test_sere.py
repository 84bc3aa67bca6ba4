"""SERE: the points that two views share, relations by hand, what is compared with what."""

import math

import numpy as np
import pytest
import tensorflow as tf
from kzoo_distillation.parts.relations import (
    channel_relations,
    relation_loss,
    sampled,
    shared_points,
    spatial_relations,
)

from kzoo.errors import OptionsError

SETTINGS = {
    "head": (16, 8),
    "prototypes": 12,
    "local_views": 2,
    "local_size": 16,
    "relation_heads": 2,
    "points": 5,
}


@pytest.fixture(scope="module")
def method(masked_method):
    return masked_method("sere", **SETTINGS)


class TestPoints:
    def test_are_the_same_places_of_the_image_in_both_views(self, method):
        """An image whose values are its coordinates: read through either view, the points have the same."""
        side = 64
        rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
        picture = np.stack([rows, columns, 0 * rows], axis=-1).astype("float32") / side
        plain = {"jitter_p": 0.0, "greyscale_p": 0.0, "blur_p": 0.0, "solarize_p": 0.0, "scale": (0.5, 1.0)}
        views = {name: getattr(method.options, name).model_copy(update=plain) for name in ("view_0", "view_1")}
        options = method.options.model_copy(update={**views, "local_views": 0})
        count = 32
        batch = method.pretext({"image": tf.constant([picture] * count)}, tf.range(count, dtype=tf.int64), options)
        boxes = tf.reshape(batch["boxes"], [count, 2, 5])
        assert set(np.unique(boxes[..., 4])) == {0.0, 1.0}
        places, overlap = shared_points(boxes, 13)
        found = sampled(
            tf.reshape(batch["large"], [2 * count, side * side, 3]), (side, side), tf.reshape(places, [-1, 2, 13])
        )
        first, second = tf.unstack(tf.reshape(found, [count, 2, 169, 3]), axis=1)
        assert np.all(overlap)
        # at the rim of a view half a pixel is cut off by its clamped edge
        assert np.abs(first - second)[..., :2].max() < 1.0 / side
        assert np.abs(first - second)[..., :2].mean() < 1e-3

    def test_views_that_share_nothing_are_told(self):
        boxes = tf.constant([[[0.0, 0, 10, 10, 0], [5, 5, 10, 10, 0]], [[0, 0, 10, 10, 0], [0, 10, 10, 10, 0]]])
        np.testing.assert_array_equal(shared_points(boxes, 3)[1], [True, False])

    def test_of_a_mirrored_view_run_backwards(self):
        boxes = tf.constant([[[0.0, 0, 8, 8, 0], [0, 0, 8, 8, 1]]])
        places, _ = shared_points(boxes, 4)
        np.testing.assert_allclose(places[0, 0], [[0.125, 0.375, 0.625, 0.875]] * 2, atol=1e-6)
        np.testing.assert_allclose(places[0, 1, 1], [0.875, 0.625, 0.375, 0.125], atol=1e-6)

    def test_lie_between_tokens_by_their_distance(self):
        tokens = tf.reshape(tf.range(8.0), [1, 4, 2])  # a 2 x 2 grid: rows (0, 1), (2, 3); (4, 5), (6, 7)
        found = sampled(tokens, (2, 2), tf.constant([[[0.25, 0.5], [0.0, 0.625]]]))
        np.testing.assert_allclose(found[0], [[0, 1], [1.5, 2.5], [2, 3], [3.5, 4.5]], atol=1e-5)


class TestRelations:
    def test_of_points_are_products_in_each_group_of_features(self):
        z = np.random.default_rng(0).normal(size=(2, 5, 8))
        found = np.asarray(spatial_relations(tf.constant(z), 2))
        expected = z[1, :, 4:] @ z[1, :, 4:].T / math.sqrt(4)
        np.testing.assert_allclose(found[1, 1], expected, rtol=1e-6)

    def test_of_features_are_their_mean_products(self):
        z = np.random.default_rng(0).normal(size=(2, 5, 8))
        np.testing.assert_allclose(channel_relations(tf.constant(z))[0], z[0].T @ z[0] / 5, rtol=1e-6)

    def test_of_constant_features_cost_log_169(self):
        same = spatial_relations(tf.ones((2, 169, 6)), 6)
        np.testing.assert_allclose(relation_loss(same, same, 0.5), [5.1299] * 2, atol=1e-4)

    def test_the_teachers_are_sharpened_and_each_row_sums_to_1(self):
        taught, said = (np.random.default_rng(i).normal(size=(3, 4, 4)) for i in range(2))
        target = np.exp(taught / 0.5) / np.exp(taught / 0.5).sum(-1, keepdims=True)
        expected = -(target * (said - np.log(np.exp(said).sum(-1, keepdims=True)))).sum(-1).mean(-1)
        np.testing.assert_allclose(relation_loss(tf.constant(taught), tf.constant(said), 0.5), expected, rtol=1e-6)


class TestLoss:
    def test_each_view_is_compared_with_the_other_and_pairs_without_overlap_count_0(self, method):
        rng = np.random.default_rng(0)
        said, taught = (tf.constant(rng.normal(size=(4, 25, 16)), tf.float32) for _ in range(2))
        whole, apart = [[0, 0, 8, 8, 0], [2, 2, 6, 6, 0]], [[0, 0, 4, 4, 0], [4, 4, 4, 4, 0]]
        boxes = tf.reshape(tf.constant([whole, apart], tf.float32), [4, 5])
        zeros, none = tf.zeros((4, 12)), tf.zeros((4, 16), tf.bool)
        patches = tf.zeros((4, 16, 12))
        outputs = {"large": zeros, "small": zeros, "patches": patches, "hidden": none, "points": said}
        batch = {"taught": zeros, "taught_patches": patches, "taught_points": taught, "boxes": boxes}
        found = method.loss(outputs, batch)
        swapped = tf.gather(taught, [1, 0])
        spatial = relation_loss(spatial_relations(swapped, 2), spatial_relations(said[:2], 2), 0.5)
        channel = relation_loss(channel_relations(swapped), channel_relations(said[:2]), 0.1)
        assert float(found["spatial_loss"]) == pytest.approx(float(tf.reduce_sum(spatial)) / 4, rel=1e-5)
        assert float(found["channel_loss"]) == pytest.approx(float(tf.reduce_sum(channel)) / 4, rel=1e-5)
        expected = 1.65 * math.log(12) + 0.2 * found["spatial_loss"] + 0.5 * found["channel_loss"]
        assert float(found["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_the_teacher_has_the_projection_and_not_the_predictor(method):
    followed = {id(theirs) for _, theirs in method.teacher.pairs}
    assert {id(variable) for variable in method.projection.trainable_variables} <= followed
    assert not {id(variable) for variable in method.predictor.trainable_variables} & followed


def test_what_is_taught_has_no_gradient(method, batch_of):
    batch = batch_of(method)
    with tf.GradientTape() as tape:
        tape.watch([ours.value for ours, _ in method.teacher.pairs])
        taught = method.teach(batch, training=True)
        total = tf.add_n([tf.reduce_sum(each) for each in taught.values()])
    assert taught["taught_points"].shape == (8, 25, 16)
    assert all(each is None for each in tape.gradient(total, [ours.value for ours, _ in method.teacher.pairs]))


def test_groups_of_features_must_fit(masked_method):
    with pytest.raises(OptionsError, match="relation_heads: 6 does not divide the width of 16"):
        masked_method("sere", **{**SETTINGS, "relation_heads": 6})
