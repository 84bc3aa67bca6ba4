"""The generator: against plain-integer SplitMix64, for its statistics, and for belonging to the example alone."""

import numpy as np
import pytest
import tensorflow as tf

from kzoo import random

SEEDS = random.example_keys(3, 0, tf.range(4096))
MASK = 2**64 - 1


def splitmix64(key: int, count: int) -> list[int]:
    """The first numbers of the published generator, in Python's integers."""
    numbers = []
    for _ in range(count):
        key = (key + 0x9E3779B97F4A7C15) & MASK
        x = key
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        numbers.append(x ^ (x >> 31))
    return numbers


@pytest.mark.parametrize("key", [0, 1, -1, 2**62 + 12345, -(2**63)])
def test_it_is_splitmix64(key):
    expected = [(x >> 40) / 2**24 for x in splitmix64(key & MASK, 6)]
    drawn = random.uniform(tf.constant([key], tf.int64), (2, 3))
    np.testing.assert_array_equal(drawn[0].numpy().ravel(), np.float32(expected))


def test_published_first_number_of_key_zero():
    assert splitmix64(0, 1) == [0xE220A8397B1DCDAF]  # keeps the reference above honest


def test_uniform_moments_and_bins():
    u = random.uniform(SEEDS, (16,)).numpy().ravel()
    n = u.size
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / n)
    assert abs(u.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / n)
    counts = np.bincount((u * 64).astype(int), minlength=64)
    chi_square = ((counts - n / 64) ** 2 / (n / 64)).sum()
    assert abs(chi_square - 63) < 4 * np.sqrt(2 * 63)


def test_uniform_bounds_may_differ_per_example():
    low = tf.constant([[0.0], [10.0]])
    drawn = random.uniform(SEEDS[:2], (1000,), low, low + 1.0).numpy()
    np.testing.assert_array_equal(np.floor(drawn), np.repeat([[0.0], [10.0]], 1000, axis=1))


def test_normal_moments():
    z = random.normal(SEEDS, (16,)).numpy().ravel()
    n = z.size
    assert np.isfinite(z).all()
    assert abs(z.mean()) < 4 / np.sqrt(n)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 4 * np.sqrt(96 / n)
    assert abs((np.abs(z) < 1).mean() - 0.682689) < 4 * np.sqrt(0.2166 / n)


def correlation(a, b):
    return abs(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


@pytest.mark.parametrize("keys", [SEEDS, tf.range(4096, dtype=tf.int64)], ids=["example_keys", "consecutive"])
def test_neighbours_and_streams_do_not_correlate(keys):
    u = random.uniform(keys, (8,)).numpy()
    limit = 4 / np.sqrt(8 * 4095)
    assert correlation(u[1:], u[:-1]) < limit  # neighbouring examples
    assert correlation(u[:, 1:], u[:, :-1]) < limit * 8 / 7  # neighbouring draws of an example
    for tag in ("crop", "colour", 0, 1, -1):
        assert correlation(u, random.uniform(random.fold_in(keys, tag), (8,))) < limit  # a stream and its parent
    streams = [random.uniform(random.fold_in(keys, tag), (8,)) for tag in (0, 1, "a", "b")]
    for i in range(4):
        for j in range(i):
            assert correlation(streams[i], streams[j]) < limit


def test_correlation_test_sees_a_dependence():
    u = random.uniform(SEEDS, (8,)).numpy()
    assert correlation(u, 0.1 * u + 0.9 * random.uniform(random.fold_in(SEEDS, "other"), (8,)).numpy()) > 4 / np.sqrt(
        8 * 4095
    )


def test_all_keys_differ():
    epochs = [random.example_keys(seed, epoch, tf.range(1000)).numpy() for seed in (0, 1) for epoch in range(5)]
    folded = [random.fold_in(epochs[0], tag).numpy() for tag in ("a", "b", "view_0", "view_1", 0, 1, 2, -1)]
    keys = np.concatenate(epochs + folded)
    assert len(np.unique(keys)) == 18 * 1000
    assert keys.dtype == np.int64


def test_order_of_tags_matters():
    there = random.fold_in(random.fold_in(SEEDS, 1), 2)
    back = random.fold_in(random.fold_in(SEEDS, 2), 1)
    assert not np.any(there.numpy() == back.numpy())


def test_tags_as_tensors_and_per_example():
    as_int = random.fold_in(SEEDS[:3], 7)
    np.testing.assert_array_equal(as_int, random.fold_in(SEEDS[:3], tf.constant(7)))
    np.testing.assert_array_equal(as_int, random.fold_in(SEEDS[:3], tf.constant([7, 7, 7])))
    assert random.fold_in(SEEDS[:3], tf.constant([7, 8, 7]))[1] != as_int[1]


def everything(keys):
    return {
        "fold_in": random.fold_in(keys, "x"),
        "uniform": random.uniform(keys, (2, 3), -1.0, 4.0),
        "normal": random.normal(keys, (5,)),
        "bernoulli": random.bernoulli(keys, 0.3),
        "mask": random.mask(keys, (2, 3), 0.3),
        "integers": random.integers(keys, (4,), -3, 9),
        "permutation": random.permutation(keys, 7),
    }


def test_same_in_eager_graph_and_tf_data_for_any_batch():
    keys = SEEDS[:12]
    expected = everything(keys)
    graph = tf.function(everything, input_signature=[tf.TensorSpec([None], tf.int64)])(keys)
    for batch_size in (1, 5, 12):
        parts = list(tf.data.Dataset.from_tensor_slices(keys).batch(batch_size).map(everything))
        for name, value in expected.items():
            np.testing.assert_array_equal(value, graph[name], err_msg=name)
            np.testing.assert_array_equal(value, tf.concat([part[name] for part in parts], 0), err_msg=name)


def test_epoch_may_be_a_tensor():
    @tf.function
    def keys(epoch):
        return random.example_keys(5, epoch, tf.constant([2, 9]))

    np.testing.assert_array_equal(keys(tf.constant(4, tf.int64)), random.example_keys(5, 4, tf.constant([2, 9])))
    assert not np.any(keys(tf.constant(5)).numpy() == keys(tf.constant(4)).numpy())


def test_shapes_known_unknown_and_empty():
    function = tf.function(everything, input_signature=[tf.TensorSpec([None], tf.int64)])
    outputs = function.get_concrete_function().structured_outputs
    assert outputs["uniform"].shape.as_list() == [None, 2, 3]
    assert outputs["bernoulli"].shape.as_list() == [None]
    empty = function(tf.zeros([0], tf.int64))
    assert empty["uniform"].shape == (0, 2, 3)
    assert empty["permutation"].shape == (0, 7)

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def dynamic(length):
        return random.uniform(SEEDS[:2], (length, 3))

    np.testing.assert_array_equal(dynamic(5), random.uniform(SEEDS[:2], (5, 3)))


def test_bernoulli_frequency_and_certainties():
    assert not np.any(random.bernoulli(SEEDS, 0.0))
    assert np.all(random.bernoulli(SEEDS, 1.0))
    assert abs(np.mean(random.bernoulli(SEEDS, 0.3)) - 0.3) < 4 * np.sqrt(0.21 / 4096)


def test_integers_cover_their_range_evenly():
    drawn = random.integers(SEEDS, (8,), -2, 5).numpy()
    assert drawn.dtype == np.int32
    counts = np.bincount(drawn.ravel() + 2, minlength=7)
    assert len(counts) == 7
    expected = drawn.size / 7
    assert ((counts - expected) ** 2 / expected).sum() < 6 + 4 * np.sqrt(12)
    wide = random.integers(SEEDS, (8,), 0, 2**31 - 1).numpy()
    assert wide.min() >= 0
    assert abs(wide.mean() / 2**31 - 0.5) < 4 * np.sqrt(1 / 12 / wide.size)
    assert len(np.unique(wide)) > wide.size - 5  # 24 bits of a float would repeat some thirty


def test_integers_bounds_may_differ_per_example():
    top = tf.constant([[1], [100], [3]])
    drawn = random.integers(SEEDS[:3], (500,), 0, top).numpy()
    assert drawn.max(1).tolist()[0::2] == [0, 2]
    assert 90 < drawn[1].max() < 100


def test_permutations_are_permutations_and_equally_likely():
    drawn = random.permutation(SEEDS, 4).numpy()
    assert drawn.dtype == np.int32
    np.testing.assert_array_equal(np.sort(drawn, 1), np.tile(np.arange(4), (4096, 1)))
    counts = np.unique(drawn @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(counts) == 24
    assert ((counts - 4096 / 24) ** 2 / (4096 / 24)).sum() < 23 + 4 * np.sqrt(46)


def test_a_mask_has_its_frequency_in_every_element_and_row():
    drawn = np.asarray(random.mask(SEEDS, (3, 7), 0.3))  # 21 elements: the last draw is used for one of four
    assert drawn.shape == (4096, 3, 7)
    assert abs(drawn.mean() - 0.3) < 4 * np.sqrt(0.21 / drawn.size)
    assert np.abs(drawn.mean(axis=0) - 0.3).max() < 5 * np.sqrt(0.21 / 4096)
    flat = drawn.reshape(4096, 21).astype(float) - 0.3
    correlations = flat.T @ flat / 4096 / 0.21 - np.eye(21)
    assert np.abs(correlations).max() < 5 / np.sqrt(4096) + 5 * np.sqrt(0.21 / 4096)
    assert not np.any(random.mask(SEEDS, (5,), 0.0))
    assert np.all(random.mask(SEEDS, (5,), 1.0))


def test_a_mask_is_sixteen_bits_of_splitmix64_for_each_element():
    [first, second] = splitmix64(7, 2)
    signed = np.array([first, second], "<u8").view("<i2").astype(int)
    drawn = random.mask(tf.constant([7], tf.int64), (2, 4), 0.25)
    np.testing.assert_array_equal(drawn[0], (signed < -(2**14)).reshape(2, 4))
