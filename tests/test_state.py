"""EMA teacher, queue and memory bank on one replica; on several, the suite compares the copies of each method."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import state
from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization
from kzoo.state import EMATeacher, MemoryBank, Queue


def student():
    inputs = keras.Input((4,))
    return keras.Model(inputs, {"embedding": BatchNormalization()(keras.layers.Dense(3)(inputs))})


def unit(rows, width=4, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, width)).astype("float32")
    return x / np.linalg.norm(x, axis=1, keepdims=True)


class TestTeacher:
    def test_starts_as_an_exact_copy_of_other_variables(self):
        model = student()
        teacher = EMATeacher([model])
        for ours, theirs in zip(teacher.models[0].variables, model.variables, strict=True):
            assert ours is not theirs
            np.testing.assert_array_equal(ours, theirs)

    def test_update_is_the_moving_average_of_the_weights(self):
        model = student()
        teacher = EMATeacher([model])
        before = [np.array(v) for v, _ in teacher.pairs]
        for variable in model.trainable_variables:
            variable.assign(variable + 1.0)
        teacher.update(0.9)
        for (ours, theirs), old in zip(teacher.pairs, before, strict=True):
            np.testing.assert_allclose(ours, 0.9 * old + 0.1 * np.array(theirs), atol=1e-7)

    def test_momentum_may_be_a_tensor_of_another_type(self):
        model = student()
        teacher = EMATeacher([model])
        ours, theirs = teacher.pairs[0]
        old = np.array(ours)
        theirs.assign(theirs + 1.0)
        teacher.update(tf.constant(0.75, tf.float64))
        np.testing.assert_allclose(ours, old + 0.25, atol=1e-6)

    def test_momentum_of_one_freezes_it(self):
        model = student()
        teacher = EMATeacher([model])
        before = [np.array(v) for v in teacher.variables]
        model.layers[1].kernel.assign(model.layers[1].kernel + 1.0)
        teacher.update(1.0)
        for ours, old in zip(teacher.variables, before, strict=True):
            np.testing.assert_array_equal(ours, old)

    def test_keeps_its_own_moving_statistics(self):
        model = student()
        teacher = EMATeacher([model])
        model(10 + unit(8), training=True)
        own = np.array(teacher.models[0].layers[2].moving_mean)
        teacher.update(0.0)
        np.testing.assert_array_equal(teacher.models[0].layers[2].moving_mean, own)

    def test_normalises_with_the_statistics_of_the_batch_and_passes_no_gradient(self):
        model = student()
        teacher = EMATeacher([model])
        x = tf.Variable(5 + unit(16))
        with tf.GradientTape() as tape:
            y = teacher(x, training=True)
            total = tf.reduce_sum(y**3)
        np.testing.assert_allclose(np.mean(y, axis=0), np.zeros(3), atol=1e-5)  # moving statistics would not centre it
        assert tape.gradient(total, [x, *teacher.variables]) == [None] * (1 + len(teacher.variables))

    def test_holds_nothing_that_an_optimizer_would_train(self):
        model = student()
        teacher = EMATeacher([model])
        assert teacher.trainable_variables == []
        assert len(teacher.variables) == len(model.variables)  # and the student's own are not its


class TestQueue:
    def test_starts_with_random_unit_vectors(self):
        keys = np.array(Queue(32, 8).read())
        np.testing.assert_allclose(np.linalg.norm(keys, axis=1), np.ones(32), rtol=1e-5)
        assert np.abs(keys.mean()) < 0.1

    def test_holds_the_last_keys_in_order_and_wraps(self):
        queue = Queue(6, 4)
        seen = []
        for step in range(5):
            batch = unit(2, seed=step)
            queue.enqueue(tf.constant(batch))
            seen += list(batch)
            for back in range(1, min(6, len(seen)) + 1):  # slot (s B - j) mod K holds the j-th last key
                np.testing.assert_array_equal(queue.read()[(len(seen) - back) % 6], seen[-back])
            assert int(queue.pointer) == len(seen) % 6

    def test_refuses_a_batch_that_does_not_divide_it(self):
        with pytest.raises(OptionsError, match="queue: 6 is not a multiple of the global batch 4"):
            Queue(6, 4).enqueue(tf.constant(unit(4)))

    def test_passes_no_gradient(self):
        queue = Queue(6, 4)
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(queue.read())
        assert tape.gradient(total, [queue.keys.value]) == [None]


class TestMemoryBank:
    def test_starts_with_norms_near_one(self):
        norms = np.linalg.norm(np.array(MemoryBank(512, 128).entries), axis=1)
        assert norms.mean() == pytest.approx(1.0, abs=0.01)
        assert norms.std() == pytest.approx(0.04, abs=0.01)

    def test_blends_only_the_slots_of_the_batch(self):
        bank = MemoryBank(10, 4)
        before = np.array(bank.entries)
        ids, features = np.array([7, 2]), unit(2)
        bank.blend(tf.constant(ids), tf.constant(features), 0.5)
        blended = 0.5 * before[ids] + 0.5 * features
        expected = before.copy()
        expected[ids] = blended / np.linalg.norm(blended, axis=1, keepdims=True)
        np.testing.assert_allclose(bank.entries, expected, atol=1e-6)
        untouched = np.setdiff1d(np.arange(10), ids)
        np.testing.assert_array_equal(np.array(bank.entries)[untouched], before[untouched])

    def test_starts_the_same_whatever_the_size_and_differently_with_the_seed(self, monkeypatch):
        monkeypatch.setattr(state, "_FILLED", 4)  # rows 4 to 7 are a block of their own, the last block holds two
        small, large = np.array(MemoryBank(10, 4).entries), np.array(MemoryBank(17, 4).entries)
        np.testing.assert_array_equal(small, large[:10])
        assert len(np.unique(large)) == large.size
        assert np.abs(large).max() <= np.sqrt(3 / 4)
        assert not np.array_equal(MemoryBank(10, 4, seed=1).entries, small)

    def test_the_last_of_two_features_of_one_slot_counts(self):
        bank = MemoryBank(10, 4)
        features = unit(3)
        bank.blend(tf.constant([7, 2, 7]), tf.constant(features), 0.0)
        np.testing.assert_allclose(np.array(bank.entries)[[7, 2]], features[[2, 1]], atol=1e-6)

    @pytest.mark.parametrize("block", [3, 1000])
    def test_nearest_are_those_of_the_whole_table(self, monkeypatch, block):
        monkeypatch.setattr(state, "_COMPARED", block)
        bank, queries = MemoryBank(40, 4), unit(5)
        order = np.argsort(-queries @ np.array(bank.entries).T, axis=1)
        np.testing.assert_array_equal(tf.function(bank.nearest)(tf.constant(queries), 7), order[:, :7])

    def test_of_equal_entries_the_lower_id_is_nearer(self, monkeypatch):
        monkeypatch.setattr(state, "_COMPARED", 3)
        bank = MemoryBank(8, 4)
        bank.entries.assign(np.tile(unit(1), (8, 1)))
        np.testing.assert_array_equal(bank.nearest(tf.constant(unit(1)), 8)[0], np.arange(8))

    def test_a_step_touches_rows_and_never_the_whole_table(self):
        """In the graph of a step the table is gathered from and scattered into; nothing reads or assigns it."""
        bank = MemoryBank(10, 4)

        @tf.function
        def step(ids, features):
            nearest = bank.nearest(features, 3)
            bank.blend(ids, features, 0.5)
            return bank.read(nearest)

        def uses(function):
            graph = function.get_concrete_function(tf.constant([1, 2]), tf.constant(unit(2))).graph.as_graph_def()
            nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
            return {node.op for node in nodes if "Resource" in node.op or "VariableOp" in node.op}

        assert uses(step) == {"ResourceGather", "ResourceScatterUpdate"}
        assert "ReadVariableOp" in uses(tf.function(lambda ids, features: bank.all()))  # the guard catches a reading
