"""The shared losses against their closed forms (one replica; on several, each method of the suite trains as on one)."""

import math

import numpy as np
import pytest
import tensorflow as tf

from kzoo import losses
from kzoo.distribute.devices import make_strategy


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


class TestSinkhorn:
    def test_equal_scores_belong_to_all_prototypes_alike(self):
        np.testing.assert_allclose(losses.sinkhorn(tf.fill((6, 4), 7.0)), np.full((6, 4), 0.25), atol=1e-7)

    def test_is_the_papers_scaling_of_exp(self):
        logits = np.random.default_rng(0).normal(size=(6, 4)) * 3
        codes = np.exp(logits) / np.exp(logits).sum()
        for _ in range(3):
            codes /= codes.sum(axis=0) * 4  # prototypes to 1 / K
            codes /= codes.sum(axis=1, keepdims=True) * 6  # samples to 1 / B
        np.testing.assert_allclose(losses.sinkhorn(tf.constant(logits)), 6 * codes, rtol=1e-12)

    def test_rows_sum_to_one_and_prototypes_nearly_to_the_same(self):
        """Cosines of random unit vectors over 0.05: three iterations bring the columns to B / K within 5 %."""
        rows, prototypes = random(512, 128), random(128, 30, seed=1)
        cosines = rows @ prototypes / np.linalg.norm(rows, axis=1)[:, None] / np.linalg.norm(prototypes, axis=0)
        codes = losses.sinkhorn(tf.constant(cosines / 0.05))
        np.testing.assert_allclose(tf.reduce_sum(codes, axis=1), 1.0, atol=1e-5)
        np.testing.assert_allclose(tf.reduce_sum(codes, axis=0), 512 / 30, rtol=0.05)
        once = losses.sinkhorn(tf.constant(cosines / 0.05), iterations=1)
        assert np.abs(tf.reduce_sum(once, axis=0) / (512 / 30) - 1).max() > 0.05

    def test_does_not_overflow_and_has_no_gradient(self):
        logits = tf.Variable([[300.0, -300.0], [300.0, -250.0]])
        with tf.GradientTape() as tape:
            codes = losses.sinkhorn(logits, iterations=50)
        np.testing.assert_allclose(codes, [[1.0, 0.0], [0.0, 1.0]], atol=1e-2)
        assert tape.gradient(codes, logits) is None

    def test_rows_that_do_not_count_change_nothing_for_the_rest(self):
        logits, counted = random(9, 4) * 5, np.arange(9) % 3 != 1
        codes = losses.sinkhorn(tf.constant(logits), counted=tf.constant(counted))
        np.testing.assert_allclose(codes.numpy()[counted], losses.sinkhorn(tf.constant(logits[counted])), atol=1e-6)
        np.testing.assert_allclose(tf.reduce_sum(codes, axis=1), 1.0, atol=1e-5)

    @pytest.mark.parametrize("counts", [(4, 4), (4, 1), (3, 0)])
    def test_replicas_share_the_prototypes(self, counts):
        """Of four rows on each of two replicas, so many count."""
        logits = np.random.default_rng(0).normal(size=(8, 5)) * 4
        counted = np.concatenate([np.arange(4) < count for count in counts])
        want = losses.sinkhorn(tf.constant(logits), counted=tf.constant(counted)).numpy()
        strategy = make_strategy("mirrored", 2, 8)

        def half(values):
            return strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(np.split(values, 2)[context.replica_id_in_sync_group])
            )

        def codes(logits, counted):
            return losses.sinkhorn(logits, counted=counted)

        found = tf.function(lambda *given: strategy.run(codes, given))(half(logits), half(counted))
        joined = np.concatenate(strategy.experimental_local_results(found))
        np.testing.assert_allclose(joined, want, atol=1e-12)
        apart = np.concatenate([losses.sinkhorn(tf.constant(part)) for part in np.split(logits, 2)])
        assert np.abs(apart - want).max() > 1e-2  # what each replica for itself would give
