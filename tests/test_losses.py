"""The shared losses against their closed forms (one replica; on several, each method of the suite trains as on one)."""

import math

import numpy as np
import pytest
import tensorflow as tf

from kzoo import losses


def nt_xent(z_0, z_1, temperature):
    logits_0, logits_1, labels = losses.nt_xent_logits(tf.constant(z_0), tf.constant(z_1), temperature)
    return float(losses.cross_entropy(logits_0, labels) + losses.cross_entropy(logits_1, labels)) / 2


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_of_equal_projections_is_log_of_the_other_views(temperature):
    same = np.ones((256, 8), "float32")
    assert nt_xent(same, same, temperature) == pytest.approx(math.log(511), abs=1e-4)


def test_nt_xent_of_orthogonal_negatives():
    basis = np.eye(64, dtype="float32")
    expected = math.log(1 + 126 * math.exp(-1 / 0.5))
    assert nt_xent(basis, basis, 0.5) == pytest.approx(expected, abs=1e-5)


def test_nt_xent_of_one_image_is_zero():
    assert nt_xent(random(1, 4), random(1, 4, seed=1), 0.1) == pytest.approx(0.0, abs=1e-6)


def test_nt_xent_is_symmetric_scale_free_and_blind_to_order():
    z_0, z_1 = random(16, 8), random(16, 8, seed=1)
    value = nt_xent(z_0, z_1, 0.2)
    order = np.random.default_rng(2).permutation(16)
    assert nt_xent(z_1, z_0, 0.2) == pytest.approx(value, abs=1e-5)
    assert nt_xent(7 * z_0, 0.1 * z_1, 0.2) == pytest.approx(value, abs=1e-5)
    assert nt_xent(z_0[order], z_1[order], 0.2) == pytest.approx(value, abs=1e-5)
    assert abs(nt_xent(z_0[order], z_1, 0.2) - value) > 1e-2  # other pairs are another problem


def test_nt_xent_by_hand():
    z_0, z_1, temperature = random(3, 4), random(3, 4, seed=1), 0.3
    unit = np.concatenate([z_0, z_1]) / np.linalg.norm(np.concatenate([z_0, z_1]), axis=1, keepdims=True)
    similar = unit @ unit.T / temperature
    total = 0.0
    for i in range(6):
        others = [k for k in range(6) if k != i]
        total -= similar[i, (i + 3) % 6] - np.log(np.exp(similar[i, others]).sum())
    assert nt_xent(z_0, z_1, temperature) == pytest.approx(total / 6, abs=1e-5)


def test_nt_xent_gradient_is_orthogonal_to_the_projection():
    z_0, z_1 = tf.Variable(random(8, 4)), tf.constant(random(8, 4, seed=1))
    with tf.GradientTape() as tape:
        logits_0, logits_1, labels = losses.nt_xent_logits(z_0, z_1, 0.1)
        loss = losses.cross_entropy(logits_0, labels) + losses.cross_entropy(logits_1, labels)
    gradient = tape.gradient(loss, z_0)
    assert np.abs(gradient).max() > 1e-3
    np.testing.assert_allclose(tf.reduce_sum(gradient * z_0, axis=1), np.zeros(8), atol=1e-5)


@pytest.mark.parametrize(("size", "expected"), [(65536, 11.0904), (4096, 8.3180)])
def test_info_nce_of_equal_logits_is_log_of_queue_and_key(size, expected):
    unit = np.zeros((2, 4), "float32")
    unit[:, 0] = 1
    logits = losses.info_nce_logits(unit, unit, np.tile(unit[:1], (size, 1)), 0.07)
    assert float(losses.cross_entropy(logits, tf.zeros(2, tf.int32))) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("temperature", "expected"), [(0.07, (11.88, 4.75, 0.32, 0.099)), (0.2, (11.19, 8.69, 6.69, 6.24))]
)
def test_info_nce_with_random_negatives(temperature, expected):
    """Width 128, 65,536 random unit negatives, a key at a cosine of 0 (as independent ones have), 0.5, 0.9, 0.99."""
    rng = np.random.default_rng(0)
    unit = lambda *shape: (x := rng.normal(size=shape)) / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    query, away, queue = unit(32, 128), unit(32, 128), tf.constant(unit(65536, 128), tf.float32)
    away -= (away * query).sum(1, keepdims=True) * query
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    for cosine, value in zip((0.0, 0.5, 0.9, 0.99), expected, strict=True):
        key = cosine * query + math.sqrt(1 - cosine**2) * away
        logits = losses.info_nce_logits(
            tf.constant(query, tf.float32), tf.constant(key, tf.float32), queue, temperature
        )
        assert float(losses.cross_entropy(logits, tf.zeros(32, tf.int32))) == pytest.approx(value, rel=0.03), cosine


def test_l2_normalize_takes_the_last_axis_and_has_a_finite_gradient_at_zero():
    np.testing.assert_allclose(losses.l2_normalize(tf.constant([[[3.0, 4.0]], [[0.0, 2.0]]])), [[[0.6, 0.8]], [[0, 1]]])
    x = tf.Variable(tf.zeros((2, 3)))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(losses.l2_normalize(x))
    np.testing.assert_allclose(tape.gradient(value, x), np.full((2, 3), 1e6))  # 1 / sqrt of its epsilon


@pytest.mark.parametrize(
    ("given", "becomes"), [("float16", "float32"), ("bfloat16", "float32"), ("float64", "float64"), ("int32", "int32")]
)
def test_only_half_precision_is_made_full(given, becomes):
    assert losses.full_precision(tf.ones(2, given)).dtype == becomes


def test_decoupled_cross_entropy_by_hand():
    """The positive is left out of the sum: log(e^0 + e^2) - 1 and log(e^3 + e^-1) - 5."""
    logits, labels = tf.constant([[0.0, 1.0, 2.0], [5.0, 3.0, -1.0]]), tf.constant([1, 0])
    expected = (math.log(1 + math.exp(2)) - 1 + math.log(math.exp(3) + math.exp(-1)) - 5) / 2
    assert float(losses.decoupled_cross_entropy(logits, labels)) == pytest.approx(expected, abs=1e-5)
    equal = losses.decoupled_cross_entropy(tf.zeros((2, 8), tf.float16), labels)
    assert float(equal) == pytest.approx(math.log(7), abs=1e-5)


def test_accuracy_counts_hits():
    logits = tf.constant([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    assert float(losses.accuracy(logits, tf.constant([1, 0, 0, 1]))) == 0.5
