"""R-Drop by hand: what two answers to one example cost."""

import math

import numpy as np
import pytest
import tensorflow as tf
from kzoo_joint.r_drop import disagreement

from kzoo.errors import OptionsError
from kzoo.layers import dropout_keys
from kzoo.specs import DataFacts
from kzoo.testing import fakes

SIDE, CLASSES = 16, ("a", "b", "c")


def build(**options):
    facts = DataFacts(classes=CLASSES)
    steps = {"learning_rate": 0.1, "total_steps": 8, "steps_per_epoch": 4}
    return fakes.build("r_drop", shape=(SIDE, SIDE, 3), data=facts, **steps, **options)


def batch_of(method, labels):
    return fakes.batch_of(method, fakes.images(len(labels), SIDE), labels=labels)


@pytest.fixture(scope="module")
def method():
    return build(dropout=0.5)


def test_uniform_logits_cost_log_k(method):
    found = method.loss({"first": tf.zeros((2, 3)), "second": tf.zeros((2, 3))}, batch_of(method, [0, 2]))
    assert float(found["loss"]) == pytest.approx(math.log(3))


def test_the_divergence_is_symmetric_and_known():
    """Of (0.9, 0.1) and (0.5, 0.5): (0.3681 + 0.5108) / 2."""
    p, q = tf.math.log([[0.9, 0.1]]), tf.math.log([[0.5, 0.5]])
    assert float(disagreement(p, q)[0]) == pytest.approx((0.3681 + 0.5108) / 2, abs=1e-4)
    np.testing.assert_allclose(disagreement(p, q), disagreement(q, p), rtol=1e-6)


def test_both_answers_have_a_gradient():
    p, q = tf.Variable([[1.0, 0.0]]), tf.Variable([[0.0, 0.5]])
    with tf.GradientTape() as tape:
        value = disagreement(p, q)
    assert all(np.abs(g).max() > 0.01 for g in tape.gradient(value, [p, q]))


def test_the_copies_differ_in_training_and_do_not_outside(method):
    batch = batch_of(method, [0, 2])
    with dropout_keys(batch["seed"]):
        trained = method.forward(batch, training=True)
    assert float(tf.reduce_min(disagreement(trained["first"], trained["second"]))) > 1e-6
    served = method.forward(batch, training=False)
    np.testing.assert_array_equal(served["first"], served["second"])
    np.testing.assert_array_equal(served["first"], method.class_logits(batch["image"]))


def test_without_dropout_there_is_nothing_to_agree_on():
    with pytest.raises(OptionsError, match="without dropout both answers would be one"):
        build(dropout=0.0)


def test_the_loss_is_both_cross_entropies_and_alpha_times_the_divergence():
    method = build(dropout=0.5, alpha=3.0)
    first, second = (np.random.default_rng(seed).normal(size=(3, 3)).astype("float32") for seed in (0, 1))
    found = method.loss({"first": tf.constant(first), "second": tf.constant(second)}, batch_of(method, [0, -1, 2]))
    p, q = (tf.nn.softmax(x).numpy() for x in (first, second))
    cost = [-(np.log(p[i, c]) + np.log(q[i, c])) / 2 for i, c in ((0, 0), (2, 2))]
    apart = [((p[i] - q[i]) * (np.log(p[i]) - np.log(q[i]))).sum() / 2 for i in (0, 2)]
    assert float(found["loss"]) == pytest.approx(np.mean(cost) + 3 * np.mean(apart), rel=1e-4)


def test_the_padding_of_a_passage_has_no_part_in_the_loss():
    about = {"backbone": "bert_tiny", "shape": (8, 20), "data": DataFacts(classes=CLASSES)}
    method = fakes.build("r_drop_text", **about, learning_rate=0.1, total_steps=8, steps_per_epoch=4)
    ids = tf.range(2, dtype=tf.int64)
    tokens = tf.constant([[1, 7, 8, 2, 0, 0, 0, 0], [1, 9, 2, 0, 0, 0, 0, 0]])
    batch = method.transform({"tokens": tokens, "id": ids, "label": tf.constant([0, 2], tf.int64)}, ids)
    table = method.backbone.get_layer("token_embedding").trainable_variables[0]
    with dropout_keys(batch["seed"]), tf.GradientTape() as tape:
        loss = method.loss(method.forward(batch, training=True), batch)["loss"]
    moved = np.abs(tf.convert_to_tensor(tape.gradient(loss, table.value)))
    assert not moved[0].any()
    assert all(moved[word].any() for word in (1, 2, 7, 8, 9))
