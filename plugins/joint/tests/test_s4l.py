"""S4L by hand: what the labels and the rest of the images are asked, and which loss reaches which head."""

import math

import numpy as np
import pytest
import tensorflow as tf
from kzoo_joint.s4l_exemplar import batch_hard, pairs

from kzoo.specs import DataFacts
from kzoo.testing import fakes

CLASSES = tuple("abcdefghij")
SIDE = 16


def build(name, **options):
    facts = DataFacts(classes=CLASSES)
    steps = {"learning_rate": 0.1, "total_steps": 8, "steps_per_epoch": 4}
    return fakes.build(name, shape=(SIDE, SIDE, 3), data=facts, **steps, **options)


def batch_of(method, labels):
    return fakes.batch_of(method, fakes.images(len(labels), SIDE), labels=labels)


def gradients(method, batch):
    """Of the loss, by the name of each variable; None where there is none."""
    with tf.GradientTape() as tape:
        loss = method.loss(method.forward(batch, training=True), batch)["loss"]
    variables = method.trainable_variables
    return {
        v.path: None if g is None else g.numpy()
        for v, g in zip(variables, tape.gradient(loss, [v.value for v in variables]), strict=True)
    }


@pytest.fixture(scope="module")
def rotation():
    return build("s4l_rotation")


class TestRotation:
    def test_uniform_logits(self, rotation):
        """log 10 + log 4 = 3.6889; of ImageNet's 1,000 classes 8.2940."""
        batch = batch_of(rotation, [3, -1, 5, -1])
        found = rotation.loss({"classes": tf.zeros((16, 10)), "turns": tf.zeros((16, 4))}, batch)
        assert float(found["loss"]) == pytest.approx(3.6889, abs=1e-4)
        assert rotation.chance()["loss"] == pytest.approx(3.6889, abs=1e-4)
        assert math.log(1000) + math.log(4) == pytest.approx(8.2940, abs=1e-4)

    def test_labels_are_repeated_for_the_turns(self, rotation):
        batch = batch_of(rotation, [3, -1, 5])
        assert batch["label"].numpy().tolist() == [3] * 4 + [-1] * 4 + [5] * 4
        assert batch["turn"].numpy().tolist() == [0, 1, 2, 3] * 3
        np.testing.assert_array_equal(batch["image"][5], np.rot90(batch["image"][4]))

    def test_the_turns_of_both_kinds_weigh_alike(self, rotation):
        """One labelled image of four: its turns cost as much as those of the other three together."""
        batch = batch_of(rotation, [3, -1, -1, -1])
        turns = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
        costs = -np.log(tf.nn.softmax(turns).numpy())[np.arange(16), [0, 1, 2, 3] * 4]
        found = rotation.loss({"classes": tf.zeros((16, 10)), "turns": tf.constant(turns)}, batch)
        assert float(found["turn_loss"]) == pytest.approx((costs[:4].mean() + costs[4:].mean()) / 2, rel=1e-5)
        assert float(found["loss"]) == pytest.approx(math.log(10) + float(found["turn_loss"]), rel=1e-5)

    def test_unlabelled_images_send_nothing_to_the_class_head(self, rotation):
        found = gradients(rotation, batch_of(rotation, [-1, -1, -1, -1]))
        heads = {path: g for path, g in found.items() if path.startswith("classes") or "/classes" in path}
        assert heads
        assert all(g is None or not g.any() for g in heads.values())
        assert any(g is not None and g.any() for path, g in found.items() if "conv_1" in path)

    def test_without_weight_the_trunk_gets_the_supervised_gradient(self):
        labels = [3, 1, 5, 0]
        method, plain = build("s4l_rotation", weight=0.0), build("supervised_rotation")
        for ours, theirs in zip(method.backbone.variables, plain.backbone.variables, strict=True):
            theirs.assign(ours)
        for ours, theirs in zip(method.class_head.variables, plain.class_head.variables, strict=True):
            theirs.assign(ours)
        first, second = (gradients(one, batch_of(one, labels)) for one in (method, plain))
        mine = [first[v.path] for v in method.backbone.trainable_variables]
        theirs = [second[v.path] for v in plain.backbone.trainable_variables]
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-7)

    def test_the_mean_of_the_turns_is_of_logits(self, rotation):
        images = np.random.default_rng(0).uniform(size=(2, SIDE, SIDE, 3)).astype("float32")
        by_hand = np.mean([rotation.class_logits(np.rot90(images, k, (1, 2)).copy()) for k in range(4)], axis=0)
        np.testing.assert_allclose(rotation.mean_of_turns(tf.constant(images)), by_hand, atol=1e-5)


VIEWS = 8


@pytest.fixture(scope="module")
def exemplar():
    return build("s4l_exemplar", width=16)


class TestExemplar:
    def test_views_that_are_all_equal_cost_log_2(self, exemplar):
        batch = batch_of(exemplar, [3, -1, 5, -1])
        same = tf.ones((4 * VIEWS, 16))
        found = exemplar.loss({"classes": tf.zeros((4 * VIEWS, 10)), "projection": same}, batch)
        assert float(found["triplet_loss"]) == pytest.approx(0.6931, abs=1e-4)
        assert float(found["loss"]) == pytest.approx(math.log(10) + math.log(2), abs=1e-4)

    def test_the_loss_lies_between_the_bounds_of_unit_vectors(self):
        ids, kinds = tf.constant([0, 0, 1, 1], tf.int64), tf.ones(4, bool)
        up, down = [[1.0, 0.0]], [[-1.0, 0.0]]
        best, _ = batch_hard(tf.constant(up * 2 + down * 2), ids, kinds)
        worst, _ = batch_hard(tf.constant(up + down + up + down), ids, kinds)
        np.testing.assert_allclose(best, 0.1269, atol=1e-4)
        np.testing.assert_allclose(worst, 2.1269, atol=1e-4)

    def test_a_view_has_seven_positives_and_all_views_of_others_as_negatives(self, exemplar):
        batch = batch_of(exemplar, [-1, -1, -1])
        same, alike = pairs(batch["exemplar"], batch["label"] >= 0)
        own = np.eye(3 * VIEWS, dtype=bool)
        assert (same.numpy() & ~own).sum(1).tolist() == [7] * 24
        assert (~same.numpy() & alike.numpy()).sum(1).tolist() == [8 * 2] * 24
        assert batch["exemplar"].numpy().tolist() == [0] * 8 + [1] * 8 + [2] * 8

    def test_labelled_and_others_are_compared_among_themselves(self, exemplar):
        labels = tf.constant(np.repeat([3, -1, 5, -1], 2), tf.int64)
        same, alike = pairs(tf.constant(np.repeat([7, 7, 8, 9], 2), tf.int64), labels >= 0)
        assert same.numpy()[0].tolist() == [True] * 4 + [False] * 4  # the same image, once with and once without label
        assert alike.numpy()[0].tolist() == [True, True, False, False] * 2

    def test_an_image_that_is_in_the_batch_twice_is_no_negative_of_itself(self):
        projection = tf.math.l2_normalize(tf.constant(np.random.default_rng(0).normal(size=(4, 3)), tf.float32), axis=1)
        _, compared = batch_hard(projection, tf.fill([4], tf.constant(5, tf.int64)), tf.ones(4, bool))
        assert not compared.numpy().any()

    def test_the_gradient_is_finite_where_views_coincide(self, exemplar):
        with tf.GradientTape() as tape:
            projection = tf.Variable(tf.ones((4, 3)) / math.sqrt(3))
            values, _ = batch_hard(projection, tf.constant([0, 0, 1, 1], tf.int64), tf.ones(4, bool))
            loss = tf.reduce_mean(values)
        assert np.isfinite(tape.gradient(loss, projection)).all()

    def test_views_of_an_image_differ_and_belong_to_it_alone(self, exemplar):
        batch = batch_of(exemplar, [3, -1, 5])
        views = batch["image"].numpy()
        assert min(np.abs(views[a] - views[b]).max() for a in range(VIEWS) for b in range(a)) > 0.01
        np.testing.assert_allclose(batch_of(exemplar, [3])["image"], views[:VIEWS], atol=1e-6)
