"""SwAV: its loss and codes by hand, the queue, and prototypes of unit norm."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.testing import fakes
from kzoo.testing.tiny import tiny_backbone

BATCH, WIDTH, PROTOTYPES, LOCAL = 8, 6, 5, 3


def build(learning_rate=0.1, steps_per_epoch=2, **options):
    keras.utils.set_random_seed(0)
    settings = {
        "projector": (16, WIDTH),
        "prototypes": PROTOTYPES,
        "local_views": LOCAL,
        "local_size": 16,
        "freeze_epochs": 0,
        **options,
    }
    method = kzoo.build_method("swav", tiny_backbone((None, None, 3)), **settings)
    method.compile(keras.optimizers.SGD(learning_rate), total_steps=10, steps_per_epoch=steps_per_epoch)
    return method


@pytest.fixture(scope="module")
def method():
    return build()


def images(count=BATCH, seed=0):
    return fakes.images(count, 32, seed=seed)


def batch_of(method, seed=0):
    return fakes.batch_of(method, images(seed=seed), 100 * seed)


def unit(rows, width=WIDTH, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, width)).astype("float32")
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def outputs(seed=0):
    return {"large": tf.constant(unit(2 * BATCH, seed=seed)), "small": tf.constant(unit(LOCAL * BATCH, seed=seed + 1))}


def sinkhorn(scores):
    codes = np.exp(scores.astype("float64") / 0.05)
    for _ in range(3):
        codes /= codes.sum(axis=0)
        codes /= codes.sum(axis=1, keepdims=True)
    return codes


def log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


class TestLoss:
    def test_of_equal_scores_is_log_k(self):
        """The paper's 3,000 prototypes: 8.0064."""
        method = build(prototypes=3000)
        method.prototypes.kernel.assign(tf.repeat(unit(1).T, 3000, axis=1))
        assert float(method.loss(outputs(), {})) == pytest.approx(8.0064, abs=1e-4)
        assert method.chance()["loss"] == pytest.approx(math.log(3000))

    def test_is_the_papers_mean_over_codes_of_other_views(self, method):
        """A view never predicts its own code."""
        given = outputs()
        large = given["large"].numpy().reshape(BATCH, 2, WIDTH)
        views = np.concatenate([large, given["small"].numpy().reshape(BATCH, LOCAL, WIDTH)], axis=1)
        scores = views @ method.prototypes.kernel.numpy()
        said = log_softmax(scores / 0.1)
        terms = [
            -(sinkhorn(scores[:, code]) * said[:, view]).sum(axis=-1).mean()
            for code in range(2)
            for view in range(2 + LOCAL)
            if view != code
        ]
        assert len(terms) == 2 * (1 + LOCAL)
        assert float(method.loss(given, {})) == pytest.approx(np.mean(terms), rel=1e-4)

    def test_codes_have_no_gradient(self):
        """The slope along the predictions alone, with the codes held, is the whole gradient."""
        method = build(local_views=0)
        z = tf.Variable(unit(2 * BATCH))
        with tf.GradientTape() as tape:
            value = method.loss({"large": z}, {})
        found = tape.gradient(value, z).numpy()
        kernel = method.prototypes.kernel.numpy()
        scores = (z.numpy() @ kernel).reshape(BATCH, 2, PROTOTYPES)
        codes = np.stack([sinkhorn(scores[:, view]) for view in (1, 0)], axis=1)  # each is asked for the other's
        wrong = np.exp(log_softmax(scores / 0.1)) - codes
        slope = (wrong @ kernel.T / 0.1 / (2 * BATCH)).reshape(2 * BATCH, WIDTH)
        slope -= (slope * z.numpy()).sum(axis=1, keepdims=True) * z.numpy()  # cosines take no notice of the norm
        np.testing.assert_allclose(found, slope, atol=1e-4)

    def test_without_small_views_it_is_that_of_the_two_large_ones(self):
        method = build(local_views=0)
        batch = batch_of(method)
        assert "small" not in batch
        assert 0 < float(method.test_step(batch)["loss"]) < 3 * math.log(PROTOTYPES)


class TestPrototypes:
    def test_keep_unit_norm_and_move(self):
        method = build()
        before = method.prototypes.kernel.numpy()
        np.testing.assert_allclose(np.linalg.norm(before, axis=0), 1.0, atol=1e-6)
        for seed in range(2):
            method.train_step(batch_of(method, seed))
            np.testing.assert_allclose(np.linalg.norm(method.prototypes.kernel, axis=0), 1.0, atol=1e-6)
        assert np.abs(method.prototypes.kernel.numpy() - before).max() > 1e-4

    def test_stay_as_drawn_for_the_first_epoch(self):
        method = build(freeze_epochs=1)
        began, batch = method.prototypes.kernel.numpy(), batch_of(method)
        for _ in range(2):
            method.train_step(batch)
            np.testing.assert_allclose(method.prototypes.kernel, began, atol=1e-6)
        method.train_step(batch)
        assert np.abs(method.prototypes.kernel.numpy() - began).max() > 1e-4


class TestQueue:
    def test_it_holds_what_the_steps_embedded_for_each_large_view(self):
        method = build(queue=2 * BATCH, learning_rate=0.0)
        batch = batch_of(method)
        z = method.forward(batch, training=True)["large"].numpy()
        method.train_step(batch)
        for view, queue in enumerate(method.queues):
            np.testing.assert_allclose(queue.read()[:BATCH], z[view::2], atol=1e-5)
            np.testing.assert_array_equal(queue.read()[BATCH:], 0.0)

    def test_what_it_holds_shares_the_prototypes_from_its_epoch_on(self):
        method = build(queue=2 * BATCH, queue_from_epoch=1)
        scores = tf.constant(unit(BATCH) @ method.prototypes.kernel.numpy())
        alone = sinkhorn(scores.numpy())
        held = unit(BATCH, seed=7)
        np.testing.assert_allclose(method.codes(scores, 0), alone, atol=1e-4)
        method.queues[0].enqueue(tf.constant(held))
        np.testing.assert_allclose(method.codes(scores, 0), alone, atol=1e-4)  # still the first epoch
        method.optimizer.iterations.assign(2)
        joint = sinkhorn(np.concatenate([scores, held @ method.prototypes.kernel.numpy()]))[
            :BATCH
        ]  # half is not filled
        np.testing.assert_allclose(method.codes(scores, 0), joint, atol=1e-4)
        np.testing.assert_allclose(method.codes(scores, 1), alone, atol=1e-4)  # the other view's is empty
        assert np.abs(joint - alone).max() > 0.01

    def test_the_batch_joins_it_after_its_loss(self):
        """The second loss is that of a queue which holds the first batch, and not yet the second."""
        method, other = (build(queue=4 * BATCH, queue_from_epoch=0, learning_rate=0.0) for _ in range(2))
        first, second = batch_of(method), batch_of(method, seed=1)
        method.train_step(first)
        found = float(method.train_step(second)["loss"])
        z_first, z_second = other.forward(first, training=True), other.forward(second, training=True)

        def remember(z):
            for view, queue in enumerate(other.queues):
                queue.enqueue(z["large"][view::2])
            return float(other.loss(z_second, {}))

        assert found == pytest.approx(remember(z_first), rel=1e-5)
        assert abs(found - remember(z_second)) > 1e-4


class TestViews:
    def test_those_of_an_example_are_neighbours_in_two_sizes(self, method):
        batch = batch_of(method)
        assert batch["large"].shape == (2 * BATCH, 32, 32, 3)
        assert batch["small"].shape == (LOCAL * BATCH, 16, 16, 3)
        z = method.forward(batch, training=False)
        alone = method.forward({"large": batch["large"][:2], "small": batch["small"][:LOCAL]}, training=False)
        np.testing.assert_allclose(z["large"][:2], alone["large"], atol=1e-5)
        np.testing.assert_allclose(z["small"][:LOCAL], alone["small"], atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(z["small"], axis=1), 1.0, atol=1e-5)

    def test_the_small_size_is_three_sevenths(self):
        method = build(local_size=None, size=224)
        blank = {"image": tf.zeros((1, 32, 32, 3), tf.uint8)}
        assert method.pretext(blank, tf.zeros(1, tf.int64), method.options)["small"].shape == (LOCAL, 96, 96, 3)

    def test_small_is_no_larger_than_large(self):
        with pytest.raises(kzoo.OptionsError, match="local_size: 64 is more than size, 32"):
            build(size=32, local_size=64)


def test_the_picture_shows_the_nearest_images_of_the_most_used_prototypes(method):
    raw = {"image": tf.constant(images())}
    shown = method.visualise(raw, {})
    scores = method.prototypes(method.projector(method(raw["image"]), training=False)).numpy()
    counts = np.bincount(scores.argmax(axis=1), minlength=PROTOTYPES)
    first = counts.argmax()
    assert shown["prototype"][0] == f"{first}\nnearest to {counts[first]}"
    assert len(shown) == 6
    np.testing.assert_array_equal(shown["image 1"][0], images()[scores[:, first].argmax()])
    np.testing.assert_array_equal(shown["image 2"][0], images()[scores[:, first].argsort()[-2]])
