"""Local aggregation: its loss by hand, its clusters, and when it begins."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_contrastive.inst_disc import MEAN
from kzoo_contrastive.parts.nce import dot_products, draw_with_noise

import kzoo
from kzoo.errors import OptionsError
from kzoo.testing import fakes

EXAMPLES, BATCH, WIDTH = 24, 8, 16
MILD = {"scale": (0.8, 1.0), "flip": 0.0, "jitter_p": 0.0, "greyscale_p": 0.0}  # what some dozen steps can learn


def images():
    return fakes.images(EXAMPLES, cell=4)


def unit(rows, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, WIDTH))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32")


def build(**options):
    settings = {"projector": (WIDTH,), "noise": 12, "background": 6, "clusters": 4, "clusterings": 3, **options}
    return fakes.build("local_aggregation", data=kzoo.DataFacts(examples=EXAMPLES), learning_rate=0.05, **settings)


def batch_of(method):
    return fakes.batch_of(method, images()[:BATCH])


@pytest.fixture(scope="module")
def method():
    method = build(warmup_epochs=0)
    method.bank.entries.assign(unit(EXAMPLES))
    return method


@pytest.fixture
def feature(method):
    """Features near their own entries, so that these are among the background neighbours."""
    near = unit(EXAMPLES)[:BATCH] + 0.3 * unit(BATCH, seed=1)
    return (near / np.linalg.norm(near, axis=1, keepdims=True)).astype("float32")


IDS = tf.range(BATCH, dtype=tf.int64)


def aggregated(method, feature):
    return method.loss({"feature": tf.constant(feature)}, {"id": IDS, "seed": IDS})


def cost(method, feature, clusters):
    method.clusters.assign(clusters)
    return float(aggregated(method, tf.constant(feature))["loss"])


def by_hand(method, feature, clusters):
    scores = feature @ np.array(method.bank.entries).T / 0.07
    losses = []
    for i, row in enumerate(scores):
        background = np.argsort(-row)[:6]
        close = [j for j in background if (clusters[j] == clusters[i]).any()]
        losses.append(-math.log(np.exp(row[close]).sum() / np.exp(row[background]).sum() + 1e-7))
    return np.mean(losses)


class TestLoss:
    def test_clusters_of_one_leave_the_own_entry_against_the_background(self, method, feature):
        alone = np.repeat(np.arange(EXAMPLES)[:, None], 3, axis=1)
        np.testing.assert_array_equal(build().clusters, alone)  # so it starts
        scores = feature @ np.array(method.bank.entries).T / 0.07
        top = np.sort(scores, axis=1)[:, -6:]
        expected = np.mean(np.log(np.exp(top).sum(axis=1)) - scores[np.arange(BATCH), np.arange(BATCH)])
        assert cost(method, feature, alone) == pytest.approx(expected, rel=1e-4)

    def test_is_the_papers_formula(self, method, feature):
        clusters = np.random.default_rng(1).integers(0, 4, (EXAMPLES, 3))
        assert cost(method, feature, clusters) == pytest.approx(by_hand(method, feature, clusters), rel=1e-4)

    def test_is_zero_where_all_background_is_close(self, method, feature):
        assert cost(method, feature, np.zeros((EXAMPLES, 3), int)) == pytest.approx(0, abs=1e-6)

    def test_one_more_clustering_never_costs(self, method, feature):
        clusters = np.random.default_rng(2).integers(0, 4, (EXAMPLES, 3))
        clusters[:, 1:] = clusters[:, :1]
        first = cost(method, feature, clusters)
        clusters[:, 1] = np.random.default_rng(3).integers(0, 4, EXAMPLES)
        assert 0 <= cost(method, feature, clusters) < first

    def test_an_example_is_close_to_itself(self, method, feature):
        clusters = np.random.default_rng(2).integers(0, 4, (EXAMPLES, 3))
        method.clusters.assign(clusters)
        background = np.array(method.bank.nearest(tf.constant(feature), 6))
        assert (background == np.arange(BATCH)[:, None]).any(axis=1).all()
        assert float(aggregated(method, tf.constant(feature))["close"]) >= 1 / 6

    def test_the_bank_gets_no_gradient_and_the_network_does(self, method):
        batch = batch_of(method)
        with tf.GradientTape() as tape:
            tape.watch(method.bank.entries.value)
            loss = aggregated(method, method.forward(batch, training=True)["feature"])["loss"]
        gradients = tape.gradient(loss, [method.bank.entries.value, *method.trainable_variables])
        assert gradients[0] is None
        assert all(gradient is not None for gradient in gradients[1:])


class TestClusters:
    def test_separate_groups_are_found_by_every_clustering(self):
        method = build(clusters=2)
        centres = np.eye(2, WIDTH, dtype="float32")[np.arange(EXAMPLES) % 2]
        labels = method.cluster(centres + 0.01 * unit(EXAMPLES), epoch=1)
        assert labels.shape == (EXAMPLES, 3)
        assert labels.dtype == np.int32
        for each in labels.T:
            assert set(each[::2]) | set(each[1::2]) == {0, 1}
            assert len(set(each[::2])) == len(set(each[1::2])) == 1

    def test_are_in_range_and_follow_from_bank_and_epoch(self, method):
        entries = np.array(method.bank.entries)
        labels = method.cluster(entries, epoch=3)
        assert labels.min() == 0
        assert labels.max() == 3
        np.testing.assert_array_equal(method.cluster(entries, epoch=3), labels)
        assert not np.array_equal(method.cluster(entries, epoch=4), labels)
        assert not np.array_equal(labels[:, 0], labels[:, 1])

    def test_must_be_fewer_than_the_examples(self):
        with pytest.raises(OptionsError, match="must be below the number of training examples, 24"):
            build(background=24)
        with pytest.raises(OptionsError, match="clusters=30"):
            build(clusters=30)


class TestPhases:
    def test_instance_discrimination_until_the_warm_up_ends(self):
        method = build(warmup_epochs=2, total_steps=4, steps_per_epoch=1)
        batch = batch_of(method)
        feature = method.forward(batch, training=True)["feature"]
        method.begin_epoch(0)
        method.begin_epoch(1)
        np.testing.assert_array_equal(np.array(method.clusters)[:, 0], np.arange(EXAMPLES))
        warm = method.loss({"feature": feature}, batch)
        ids = draw_with_noise(batch["id"], batch["seed"], 12, EXAMPLES)
        expected = method.noise_contrast.loss(dot_products(feature, method.bank.read(ids)) / 0.07)
        assert float(warm["loss"]) == pytest.approx(float(expected), rel=1e-5)
        assert float(warm["close"]) == 0

        method.optimizer.iterations.assign(2)
        method.begin_epoch(2)
        np.testing.assert_array_equal(method.clusters, method.cluster(np.array(method.bank.entries), 2))
        logs = method.loss({"feature": feature}, batch)
        assert float(logs["loss"]) == pytest.approx(
            by_hand(method, feature.numpy(), np.array(method.clusters)), rel=1e-4
        )
        assert float(logs[MEAN]) == 0  # a constant is of no use any more

    def test_an_empty_bank_is_not_clustered(self):
        method = build(warmup_epochs=0)
        method.begin_epoch(0)
        np.testing.assert_array_equal(np.array(method.clusters)[:, 0], np.arange(EXAMPLES))

    def test_trains_through_both_in_one_graph(self):
        method = build(warmup_epochs=1, view=MILD)
        method.compile(keras.optimizers.Adam(3e-3))
        history = method.fit(images(), batch_size=BATCH, epochs=16, verbose=0).history
        assert history["close"][0] == 0
        assert all(0 < close < 1 for close in history["close"][1:])
        assert history["loss"][-1] < history["loss"][1]
        np.testing.assert_allclose(np.linalg.norm(np.array(method.bank.entries), axis=1), 1, rtol=1e-5)
