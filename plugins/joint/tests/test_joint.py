"""What the methods of the family share: labels that are hidden or missing, `classify`, accuracy; and the baselines."""

import math

import numpy as np
import pytest
import tensorflow as tf
from kzoo_joint.parts.classifier import class_losses, mean_of_both

import kzoo
from kzoo.data import array_source
from kzoo.data.labels import hide_labels
from kzoo.errors import OptionsError
from kzoo.export import export_backbone
from kzoo.specs import DataFacts
from kzoo.testing import fakes
from kzoo.testing.tiny import tiny_backbone

CLASSES = ("ant", "bee", "cow", "dog")
COUNT = 24


def source_of(labels):
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3)).astype("uint8")
    return array_source("some", images, labels, CLASSES)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(1).integers(0, 4, COUNT)


def build(name, **options):
    facts = DataFacts(classes=CLASSES)
    return fakes.build(name, data=facts, learning_rate=0.1, total_steps=8, steps_per_epoch=4, **options)


@pytest.fixture(scope="module")
def supervised():
    return build("supervised")


def batch_of(method, labels):
    return fakes.batch_of(method, fakes.images(len(labels)), labels=labels)


@pytest.mark.parametrize(
    ("name", "options"),
    [("supervised", {}), ("s4l_rotation", {}), ("s4l_exemplar", {"views": 2, "width": 8}), ("sla_sd", {})],
)
def test_a_hidden_label_is_never_seen(labels, name, options):
    """Other labels where they are hidden: the training is the same to the bit."""
    shown = np.array([1, 5, 8, 13, 21])
    others = np.setdiff1d(np.arange(COUNT), shown)
    moved = labels.copy()
    moved[others] = (moved[others] + 1) % 4
    trained = []
    for some in (labels, moved):
        method = build(name, **options)
        hidden = hide_labels(source_of(some), shown, share=0.5)
        method.fit(hidden, batch_size=8, epochs=1, seed=3, verbose=0)
        trained.append([np.array(variable).tobytes() for variable in method.variables])
    assert trained[0] == trained[1]


def test_a_seen_label_is(labels):
    weights = []
    for change in (0, 1):
        method = build("supervised")
        method.fit(source_of((labels + change) % 4), batch_size=8, epochs=1, seed=3, verbose=0)
        weights.append(np.array(method.class_head.kernel))
    assert np.abs(weights[0] - weights[1]).max() > 1e-3


def test_data_without_classes_is_refused_by_name():
    with pytest.raises(OptionsError, match="sla: learns from labels"):
        kzoo.build_method("sla", tiny_backbone((16, 16, 3)), data=DataFacts(examples=4))


def test_the_mean_is_over_the_labelled_images_alone(supervised):
    labels = np.array([2, -1, 0, -1])
    batch = batch_of(supervised, labels)
    logits = tf.constant(np.random.default_rng(0).normal(size=(4, 4)), tf.float32)
    log_p = np.log(tf.nn.softmax(logits).numpy())
    found = supervised.loss({"classes": logits}, batch)
    assert float(found["loss"]) == pytest.approx(-(log_p[0, 2] + log_p[2, 0]) / 2, rel=1e-5)
    uniform = supervised.loss({"classes": tf.zeros((4, 4))}, batch)
    assert float(uniform["loss"]) == pytest.approx(math.log(4))
    nothing = supervised.loss({"classes": logits}, {"label": tf.fill([4], tf.constant(-1, tf.int64))})
    assert float(nothing["loss"]) == 0.0


def test_the_mean_of_two_means_weighs_kinds_not_rows():
    values, labelled = tf.constant([1.0, 2.0, 4.0, 6.0]), tf.constant([True, False, False, False])
    assert float(mean_of_both(values, labelled)) == pytest.approx((1 + 4) / 2)
    assert float(mean_of_both(values, labelled, tf.constant([False, True, True, True]))) == pytest.approx(4)
    assert float(mean_of_both(values, tf.ones(4, bool))) == pytest.approx(13 / 4)


def test_rows_without_a_label_have_finite_losses():
    entropies, _, labelled = class_losses(tf.zeros((2, 4)), tf.constant([-1, 3], tf.int64))
    np.testing.assert_allclose(entropies, math.log(4))
    assert labelled.numpy().tolist() == [False, True]


def test_supervised_rotation_repeats_the_label_for_the_four_turns():
    method = build("supervised_rotation", padding=0, flip=0)
    batch = batch_of(method, np.array([3, -1]))
    assert batch["label"].numpy().tolist() == [3] * 4 + [-1] * 4
    for turn in range(4):
        np.testing.assert_array_equal(batch["image"][turn], np.rot90(batch["image"][0], turn))


@pytest.mark.parametrize("name", ["supervised", "sla", "sla_sd"])
def test_the_export_names_classes(name, tmp_path):
    method = build(name)
    path = export_backbone(method.encoder, tmp_path, name="a", metadata={}, signatures=method.signatures())
    images = np.random.default_rng(2).integers(0, 256, (3, 16, 16, 3)).astype("uint8")
    answer = tf.saved_model.load(str(path)).signatures["classify"](image=tf.constant(images))
    assert answer["classes"].numpy().astype(str).tolist() == [list(CLASSES)] * 3
    expected = tf.nn.softmax(method.class_logits(images / np.float32(255)))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(answer["probabilities"], axis=1), 1, atol=1e-5)


def test_accuracy_counts_the_labelled_of_the_test_split(supervised, labels):
    said = np.argmax(supervised.class_logits(source_of(labels).decode(tf.range(24))["image"] / 255), axis=1)
    known = np.where(np.arange(COUNT) < 10, said, (said + 1) % 4)
    known[20:] = -1
    found = supervised.extra_metrics(source_of(labels), source_of(known))
    assert found == {"test_accuracy": pytest.approx(10 / 20)}
    assert supervised.extra_metrics(source_of(labels), None) == {}
