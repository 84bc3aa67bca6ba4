"""SLA by hand: joint labels, the mean over versions, and what the single head is taught."""

import math

import numpy as np
import pytest
import tensorflow as tf
from kzoo_joint.sla import aggregate, joint_labels, versions_of
from kzoo_joint.sla_sd import imitation

from kzoo.errors import OptionsError
from kzoo.specs import DataFacts
from kzoo.testing import fakes

SIDE = 16


def build(name, classes=10, channels=3, **options):
    facts = DataFacts(classes=tuple(f"class {number}" for number in range(classes)))
    steps = {"learning_rate": 0.1, "total_steps": 8, "steps_per_epoch": 4}
    return fakes.build(name, shape=(SIDE, SIDE, channels), data=facts, **steps, **options)


def batch_of(method, labels):
    return fakes.batch_of(method, fakes.images(len(labels), SIDE), labels=labels)


@pytest.fixture(scope="module")
def sla():
    return build("sla")


@pytest.fixture(scope="module")
def distilled():
    return build("sla_sd")


class TestJointLabels:
    def test_uniform_logits(self, sla):
        """log 40 = 3.6889 of ten classes, log 400 = 5.9915 of a hundred."""
        batch = batch_of(sla, [3, 7])
        assert float(sla.loss({"joint": tf.zeros((8, 40))}, batch)["loss"]) == pytest.approx(3.6889, abs=1e-4)
        hundred = build("sla", classes=100)
        found = hundred.loss({"joint": tf.zeros((8, 400))}, batch_of(hundred, [3, 70]))
        assert float(found["loss"]) == pytest.approx(5.9915, abs=1e-4)
        summed = build("sla", summed=True)
        assert float(summed.loss({"joint": tf.zeros((8, 40))}, batch)["loss"]) == pytest.approx(4 * math.log(40))

    def test_class_and_version_can_be_read_back(self, sla):
        labels = np.array([3, 0, 9])
        batch = batch_of(sla, labels)
        joint = joint_labels(batch["label"], batch["version"], 4).numpy()
        assert (joint[::4] // 4).tolist() == labels.tolist()
        assert (joint % 4).tolist() == [0, 1, 2, 3] * 3
        hidden = batch_of(sla, [-1])
        assert joint_labels(hidden["label"], hidden["version"], 4).numpy().tolist() == [-1] * 4

    @pytest.mark.parametrize(("versions", "count"), [("turns", 4), ("colours", 6), ("both", 24)])
    def test_versions_of_an_image_are_neighbours_all_different_and_the_first_is_the_image(self, versions, count):
        images = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype("float32")
        made = versions_of(tf.constant(images), versions).numpy().reshape(2, count, 8, 8, 3)
        np.testing.assert_array_equal(made[:, 0], images)
        assert len({one.tobytes() for one in made[1]}) == count
        if versions == "both":
            np.testing.assert_array_equal(made[1, 6], np.rot90(images[1]))

    def test_orders_of_colours_need_colours(self):
        with pytest.raises(OptionsError, match="3"):
            build("sla", channels=1, versions="colours")

    def test_with_one_version_it_is_the_plain_classifier_to_the_bit(self):
        one, plain = build("sla", versions="none"), build("supervised")
        for name in ("backbone", "head"):
            theirs = plain.backbone if name == "backbone" else plain.class_head
            ours = one.backbone if name == "backbone" else one.joint_head
            for a, b in zip(ours.variables, theirs.variables, strict=True):
                b.assign(a)
        for method in (one, plain):
            for _ in range(2):
                method.train_step(batch_of(method, [3, -1, 7, 1]))
        for a, b in zip(one.backbone.variables, plain.backbone.variables, strict=True):
            np.testing.assert_array_equal(a, b)


class TestAggregation:
    def test_it_averages_each_versions_logit_of_itself(self):
        logits = np.random.default_rng(0).normal(size=(2 * 4, 3 * 4)).astype("float32")
        expected = [[np.mean([logits[4 * i + t, 4 * c + t] for t in range(4)]) for c in range(3)] for i in range(2)]
        np.testing.assert_allclose(aggregate(tf.constant(logits), 4), expected, atol=1e-6)

    def test_versions_that_are_sure_of_a_class_name_it(self):
        y = 2
        logits = np.zeros((4, 20), "float32")
        logits[np.arange(4), 4 * y + np.arange(4)] = 1
        assert int(np.argmax(aggregate(tf.constant(logits), 4))) == y

    def test_a_shift_of_one_version_changes_nothing(self):
        logits = np.random.default_rng(0).normal(size=(4, 12)).astype("float32")
        shifted = logits + np.array([[0], [3], [0], [-1]], "float32")
        before, after = (tf.nn.softmax(aggregate(tf.constant(x), 4)) for x in (logits, shifted))
        np.testing.assert_allclose(before, after, atol=1e-6)

    def test_the_method_names_classes_by_it_or_by_the_image_alone(self, sla):
        images = np.random.default_rng(0).uniform(size=(2, SIDE, SIDE, 3)).astype("float32")
        joint = sla.joint_head(sla.embed(versions_of(tf.constant(images), "turns"), False))
        np.testing.assert_allclose(sla.class_logits(images), aggregate(joint, 4), atol=1e-5)
        np.testing.assert_allclose(sla.single(images), joint.numpy()[::4, ::4], atol=1e-5)
        assert sorted(sla.answers()) == ["test_accuracy", "test_accuracy_aggregated", "test_accuracy_single"]


class TestSelfDistillation:
    def test_uniform_logits(self, distilled):
        """log 40 + log 10 + 0 = 5.9915; of a hundred classes 10.5966."""
        zeros = {"joint": tf.zeros((8, 40)), "single": tf.zeros((2, 10))}
        assert float(distilled.loss(zeros, batch_of(distilled, [3, 7]))["loss"]) == pytest.approx(5.9915, abs=1e-4)
        assert math.log(400) + math.log(100) == pytest.approx(10.5966, abs=1e-4)

    def test_the_divergence_is_0_where_both_differ_by_a_shift_alone(self):
        taught = tf.constant([[1.0, -2.0, 0.5]])
        for temperature in (1.0, 2.0):
            assert float(imitation(taught, taught + 7.0, temperature)[0]) == pytest.approx(0, abs=1e-6)
            assert float(imitation(taught, tf.zeros((1, 3)), temperature)[0]) > 0.01

    def test_it_is_from_what_is_taught_to_what_is_said(self):
        """KL((0.9, 0.1) || (0.5, 0.5)) = 0.3681; the other way round 0.5108."""
        taught, said = tf.math.log([[0.9, 0.1]]), tf.math.log([[0.5, 0.5]])
        assert float(imitation(taught, said, 1.0)[0]) == pytest.approx(0.3681, abs=1e-4)
        assert float(imitation(said, taught, 1.0)[0]) == pytest.approx(0.5108, abs=1e-4)

    def test_it_teaches_the_single_head_alone_and_that_sees_the_image_as_it_is(self, distilled):
        batch = batch_of(distilled, [3, 7])
        with tf.GradientTape() as tape:
            outputs = distilled.forward(batch, training=True)
            found = distilled.loss(outputs, batch)["distillation"]
        joint, single = tape.gradient(found, [distilled.joint_head.kernel.value, distilled.single_head.kernel.value])
        assert joint is None or not np.any(joint)
        assert np.any(single)
        whole = distilled.single_head(distilled.embed(batch["image"], training=False))[::4]
        np.testing.assert_allclose(distilled.forward(batch, training=False)["single"], whole, atol=1e-6)

    def test_images_without_a_label_teach_nothing(self, distilled):
        rng = np.random.default_rng(0)
        outputs = {
            "joint": tf.constant(rng.normal(size=(8, 40)), tf.float32),
            "single": tf.constant(rng.normal(size=(2, 10)), tf.float32),
        }
        alone = {"joint": outputs["joint"][:4], "single": outputs["single"][:1]}
        both = distilled.loss(outputs, batch_of(distilled, [3, -1]))["loss"]
        assert float(both) == pytest.approx(float(distilled.loss(alone, batch_of(distilled, [3]))["loss"]), rel=1e-5)
