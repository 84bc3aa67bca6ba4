"""SimCSE against its paper."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_text.simcse import uniformity

from kzoo.data import text_source
from kzoo.errors import OptionsError
from kzoo.layers import dropout_keys
from kzoo.losses import l2_normalize
from kzoo.text import CLS, SEP, SPECIAL


@pytest.fixture(scope="module")
def method(build):
    return build("simcse", pooling="cls")


@pytest.fixture(scope="module")
def batch(method, passages, keys):
    raw = passages(16, 16)
    return method.transform(raw, keys(raw))


def train_pass(method, batch):
    with dropout_keys(batch["seed"]):
        return method.forward(batch, training=True)


def test_all_equal_costs_log_b(method, batch):
    same = tf.ones((64, 8))
    logs = method.loss({"view_0": same, "view_1": same}, batch)
    assert float(logs["loss"]) == pytest.approx(4.1589, abs=1e-4)


def test_the_loss_by_hand(method, batch):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 5, 3)).astype("float32")
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, other)]
    cosines = unit[0] @ unit[1].T / 0.05
    expected = np.mean([math.log(np.exp(row - row[i]).sum()) for i, row in enumerate(cosines)])
    logs = method.loss({"view_0": tf.constant(one), "view_1": tf.constant(other)}, batch)
    assert float(logs["loss"]) == pytest.approx(expected, rel=1e-4)
    assert float(logs["accuracy"]) == np.mean(cosines.argmax(axis=1) == np.arange(5))
    swapped = method.loss({"view_0": tf.constant(other), "view_1": tf.constant(one)}, batch)
    assert abs(float(swapped["loss"]) - expected) > 1e-3  # one direction


def test_the_two_views_differ_by_dropout_alone(method, batch):
    views = train_pass(method, batch)
    cosines = tf.reduce_sum(l2_normalize(views["view_0"]) * l2_normalize(views["view_1"]), axis=1).numpy()
    assert cosines.max() < 0.9999
    for name, value in train_pass(method, batch).items():
        np.testing.assert_array_equal(value, views[name])
    still = method.forward(batch, training=False)
    np.testing.assert_allclose(still["view_0"], still["view_1"], atol=1e-6)


def test_views_belong_to_the_passage(method, batch):
    views = train_pass(method, batch)
    part = train_pass(method, {name: value[5:9] for name, value in batch.items()})
    for name, value in part.items():
        np.testing.assert_allclose(value, views[name][5:9], atol=1e-6)


def test_the_gradient_reaches_both_views(method, batch):
    one, other = tf.random.stateless_normal((2, 6, 4), [0, 1])
    with tf.GradientTape() as tape:
        tape.watch([one, other])
        loss = method.loss({"view_0": one, "view_1": other}, batch)["loss"]
    for gradient in tape.gradient(loss, [one, other]):
        assert np.abs(gradient).max(axis=1).min() > 1e-6


def test_the_head_is_dropped_downstream(method, passages):
    tokens = passages(4, 16)["tokens"]
    outputs = method.backbone(tokens, training=False)
    np.testing.assert_array_equal(method(tokens), outputs["tokens"][:, 0])
    assert method.encoder is method.backbone


def test_a_backbone_without_dropout_is_refused(build):
    with pytest.raises(OptionsError) as caught:
        build("simcse", dropout=0.0)
    assert str(caught.value) == (
        "simcse: bert_tiny has no dropout, so both views of a passage would be one; "
        "set backbone.options.dropout above 0"
    )


def test_uniformity():
    assert uniformity(np.ones((5, 3), "float32")) == pytest.approx(0.0, abs=1e-6)
    corners = np.array([[1, 0], [0, 2], [-3, 0]], "float32")  # of length 1: squared distances 2, 4 and 2
    assert uniformity(corners) == pytest.approx(math.log((2 * math.exp(-4) + math.exp(-8)) / 3), abs=1e-5)
    rng = np.random.default_rng(0)
    assert uniformity(rng.normal(size=(1000, 128)).astype("float32")) == pytest.approx(-4, abs=0.1)


def test_it_learns_to_tell_passages_apart_and_shows_it(build):
    rng = np.random.default_rng(0)
    words = rng.integers(5, 200, (96, 14))
    tokens = np.concatenate([np.full((96, 1), CLS), words, np.full((96, 1), SEP)], axis=1).astype("int32")
    source = text_source("noise", tokens, (*SPECIAL, *(f"w{number}" for number in range(195))))
    method = build("simcse", data=source)
    method.compile(keras.optimizers.Adam(1e-3))
    before = method.extra_metrics(source, None)["uniformity"]
    losses = method.fit(source, batch_size=32, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * losses[0]
    assert method.extra_metrics(source, None)["uniformity"] < before - 0.5
    raw = source.decode(tf.range(4, dtype=tf.int64))
    answers = method.visualise(raw, method.transform(raw, tf.range(4, dtype=tf.int64)))
    passages, nearest = answers["passage"], answers["most like it"]
    units = [vector / np.linalg.norm(vector) for vector in np.asarray(method(raw["tokens"]), "float64")]
    for row, unit in enumerate(units):
        cosines = {other: float(unit @ units[other]) for other in range(4) if other != row}
        best = max(cosines, key=cosines.__getitem__)
        assert nearest[row] == passages[best] != passages[row]
        assert answers["cosine"][row] == f"{cosines[best]:.2f}"
