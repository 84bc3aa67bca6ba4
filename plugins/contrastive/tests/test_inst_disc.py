"""Instance discrimination against its closed forms, and the order of its step."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_contrastive.inst_disc import MEAN
from kzoo_contrastive.parts.nce import NoiseContrast, dot_products, draw_with_noise, mean_exponential

import kzoo
from kzoo.data import array_source
from kzoo.errors import OptionsError
from kzoo.testing import fakes
from kzoo.testing.tiny import tiny_backbone

EXAMPLES, BATCH = 24, 8
MILD = {"scale": (0.8, 1.0), "flip": 0.0, "jitter_p": 0.0, "greyscale_p": 0.0}  # what some dozen steps can learn


def images(count=EXAMPLES, seed=0):
    return fakes.images(count, seed=seed, cell=4)


def build(**options):
    settings = {"projector": (16,), "noise": 12, **options}
    return fakes.build("inst_disc", data=kzoo.DataFacts(examples=EXAMPLES), learning_rate=0.05, **settings)


def batch_of(method, start=0):
    return fakes.batch_of(method, images()[start : start + BATCH], start, first_id=start)


def unit(rows, width, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, width))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32")


class TestNoiseContrast:
    def test_uniform_probabilities_cost_the_closed_form(self):
        """Every P = 1 / n, m = 4096: log(1 + m) + m log(1 + 1 / m); whatever the equal scores are."""
        for score in (0.0, 3.0):
            loss = NoiseContrast(4096).loss(tf.fill([5, 4097], score))
            assert float(loss) == pytest.approx(9.3179, abs=2e-3)

    def test_is_the_papers_formula(self):
        n, m, constant = 50, 6, 1.7
        contrast = NoiseContrast(m)
        contrast.constant.assign(constant)
        scores = np.random.default_rng(0).normal(size=(4, 1 + m)).astype("float32")
        p = np.exp(scores) / (constant * n)
        h = p / (p + m / n)
        expected = np.mean(-np.log(h[:, 0]) - np.log(1 - h[:, 1:]).sum(axis=1))
        assert float(contrast.loss(tf.constant(scores))) == pytest.approx(expected, rel=1e-5)

    def test_constant_is_that_of_the_first_batch(self):
        contrast = NoiseContrast(3)
        contrast.loss(tf.ones([2, 4]))
        assert float(contrast.constant) == 0  # a loss alone keeps nothing
        contrast.keep(tf.constant(0.0))
        assert float(contrast.constant) == 0
        for later in (1.0, 2.0):
            contrast.keep(mean_exponential(tf.fill([2, 4], later)))
            assert float(contrast.constant) == pytest.approx(math.e, rel=1e-6)

    @pytest.mark.parametrize("accumulate", [1, 4])
    def test_constant_is_that_of_the_whole_batch_in_parts_too(self, accumulate):
        method = build()
        method.compile(keras.optimizers.SGD(0.0), accumulate=accumulate)
        batch = batch_of(method)
        feature = method.forward(batch, training=False)["feature"]
        drawn = draw_with_noise(batch["id"], batch["seed"], method.options.noise, EXAMPLES)
        scores = dot_products(feature, method.bank.read(drawn)) / method.options.temperature
        method.backbone.trainable = False  # no batch statistics: parts and whole see the same features
        method.train_step(batch)
        assert float(method.noise_contrast.constant) == pytest.approx(float(tf.reduce_mean(tf.exp(scores))), rel=1e-4)

    def test_constant_of_a_fresh_bank_is_near_2_2(self):
        """Unit features in 128 dimensions at temperature 0.07: E[exp(f . v / 0.07)] = 2.21."""
        method = kzoo.build_method(
            "inst_disc", tiny_backbone((16, 16, 3)), data=kzoo.DataFacts(examples=4000), noise=2000
        )
        batch = {"id": tf.range(64, dtype=tf.int64), "seed": tf.range(64, dtype=tf.int64)}
        method.noise_contrast.keep(method.loss({"feature": tf.constant(unit(64, 128))}, batch)[MEAN])
        assert float(method.noise_contrast.constant) == pytest.approx(2.21, abs=0.1)

    def test_noise_is_drawn_from_all_examples_whatever_the_batch(self):
        ids, keys = tf.constant([3, 5], tf.int64), tf.constant([10, 11], tf.int64)
        drawn = draw_with_noise(ids, keys, 2000, 10).numpy()
        np.testing.assert_array_equal(drawn[:, 0], [3, 5])
        counts = np.bincount(drawn[0, 1:], minlength=10)
        assert len(counts) == 10
        np.testing.assert_allclose(counts, 200, atol=5 * math.sqrt(180))  # its own id is drawn as often as another
        assert not np.array_equal(drawn[0, 1:], drawn[1, 1:])
        np.testing.assert_array_equal(drawn[1:], draw_with_noise(ids[1:], keys[1:], 2000, 10))


class TestStep:
    @pytest.fixture(scope="class")
    def step(self):
        """A method after one step, with what it held before and the features that the step must have used."""
        method = build()
        batch = batch_of(method, start=4)
        old = np.array(method.bank.entries)
        feature = method.forward(batch, training=True)["feature"]
        expected = method.loss({"feature": feature}, batch)
        logs = method.train_step(batch)
        return method, old, np.array(feature), expected, logs

    def test_the_loss_saw_the_entries_from_before(self, step):
        method, _, feature, expected, logs = step
        assert float(logs["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)
        after = method.loss({"feature": tf.constant(feature)}, batch_of(method, start=4))
        assert abs(float(after["loss"]) - float(logs["loss"])) > 1e-2

    def test_the_own_entries_follow_and_no_other_moves(self, step):
        method, old, feature, _, _ = step
        entries = np.array(method.bank.entries)
        blended = 0.5 * old[4:12] + 0.5 * feature
        np.testing.assert_allclose(entries[4:12], blended / np.linalg.norm(blended, axis=1, keepdims=True), atol=1e-5)
        others = np.r_[0:4, 12:EXAMPLES]
        np.testing.assert_array_equal(entries[others], old[others])

    def test_the_constant_stays_from_the_second_step_on(self, step):
        method = step[0]
        constant = float(method.noise_contrast.constant)
        assert constant > 0
        method.train_step(batch_of(method, start=12))
        assert float(method.noise_contrast.constant) == constant

    def test_no_gradient_reaches_the_bank(self, step):
        method = step[0]
        batch = batch_of(method)
        with tf.GradientTape() as tape:
            tape.watch(method.bank.entries.value)
            loss = method.loss(method.forward(batch, training=True), batch)["loss"]
        gradients = tape.gradient(loss, [method.bank.entries.value, *method.trainable_variables])
        assert gradients[0] is None
        assert all(gradient is not None for gradient in gradients[1:])

    def test_parts_of_a_batch_are_all_remembered(self):
        method = build()
        method.compile(keras.optimizers.SGD(0.05), accumulate=2)
        old = np.array(method.bank.entries)
        method.train_step(batch_of(method))
        moved = np.abs(np.array(method.bank.entries) - old).max(axis=1) > 1e-3
        np.testing.assert_array_equal(moved, np.arange(EXAMPLES) < BATCH)


class TestVariants:
    def test_the_full_softmax_is_over_all_examples(self):
        method = build(noise=None, temperature=0.5)
        feature = unit(BATCH, 16)
        batch = {"id": tf.range(3, 3 + BATCH, dtype=tf.int64)}
        scores = feature @ np.array(method.bank.entries).T / 0.5
        own = scores[np.arange(BATCH), np.arange(3, 3 + BATCH)]
        expected = np.mean(np.log(np.exp(scores).sum(axis=1)) - own)
        assert float(method.loss({"feature": tf.constant(feature)}, batch)["loss"]) == pytest.approx(expected, rel=1e-5)
        method.bank.entries.assign(np.tile(feature[:1], (EXAMPLES, 1)))
        equal = method.loss({"feature": tf.constant(feature)}, batch)
        assert float(equal["loss"]) == pytest.approx(math.log(EXAMPLES), rel=1e-5)

    def test_the_proximal_term_is_the_squared_step(self):
        plain, proximal = build(), build(proximal=30.0)
        batch, feature = batch_of(plain), unit(BATCH, 16)
        extra = [float(m.loss({"feature": tf.constant(feature)}, batch)["loss"]) for m in (plain, proximal)]
        steps = np.sum((feature - np.array(plain.bank.entries)[:BATCH]) ** 2, axis=1)
        assert extra[1] - extra[0] == pytest.approx(30 * steps.mean(), rel=1e-4)

    def test_needs_the_number_of_examples(self):
        with pytest.raises(OptionsError, match="remembers every example"):
            kzoo.build_method("inst_disc", tiny_backbone((16, 16, 3)), projector=(16,), noise=4)

    def test_learns_its_classes(self):
        method = build(noise=None, temperature=0.2, momentum=0.0, view=MILD)
        method.compile(keras.optimizers.Adam(3e-3))
        history = method.fit(images(), batch_size=BATCH, epochs=20, verbose=0).history
        assert history["loss"][-1] < 0.6 * math.log(EXAMPLES)
        assert history["accuracy"][-1] > 0.5


class TestBankNeighbours:
    @pytest.fixture(scope="class")
    def method(self):
        method = build(temperature=0.01)  # the nearest neighbour decides
        raw = method.projector(method.embed(tf.constant(images() / np.float32(255)), training=False))
        method.bank.entries.assign(tf.math.l2_normalize(raw, axis=1))
        return method

    @pytest.fixture(scope="class")
    def source(self):
        return array_source("some", images(), np.arange(EXAMPLES), [str(i) for i in range(EXAMPLES)])

    def test_an_image_is_its_own_nearest_entry(self, method, source):
        assert method.extra_metrics(source, source) == {"bank_knn_accuracy": 1.0}

    def test_entries_of_other_images_do_not_help(self, method, source):
        kept = np.array(method.bank.entries)
        method.bank.entries.assign(np.roll(kept, 1, axis=0))
        assert method.extra_metrics(source, source)["bank_knn_accuracy"] == 0.0
        method.bank.entries.assign(kept)

    def test_nothing_is_said_without_a_test_split_or_labels(self, method, source):
        assert method.extra_metrics(source, None) == {}
        assert method.extra_metrics(array_source("unlabelled", images()), source) == {}
