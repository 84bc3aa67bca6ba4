"""MoCo v1 and v2 against the closed forms and the step order of their papers."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.data import evaluation_batches
from kzoo.errors import OptionsError, StrategyError
from kzoo.evaluate import embed, linear_probe
from kzoo.layers import split_batch_statistics
from kzoo.testing import fakes


def images(count=16, size=16, channels=3, seed=0):
    return fakes.images(count, size, channels, seed, cell=4)


def build(name, size=16, channels=3, **options):
    return fakes.build(name, backbone="convnet4", shape=(size, size, channels), **options)


def batch_of(method, count=16, seed=0):
    return fakes.batch_of(method, images(count), seed)


def moco(name="moco_v2", **options):
    method = build(name, **{"queue": 64, "groups": 2, **options})
    method.compile(keras.optimizers.SGD(0.05))
    return method


def changed(method, before):
    return {id(v) for v, old in zip(method.variables, before, strict=True) if not np.array_equal(v, old)}


def identities(variables):
    return {id(v) for v in variables}  # a teacher's variables have the names of the student's


def values(method):
    return [np.array(v) for v in method.variables]


class TestMoCo:
    def test_the_head_of_v1_is_linear_and_that_of_v2_is_not(self):
        """A line through two embeddings stays one; and no example of the batch sees the others in the head."""
        for name, straight in (("moco_v1", True), ("moco_v2", False)):
            project = moco(name).projector
            a, b = (tf.random.stateless_normal((4, project.input_shape[-1]), seed=[0, i]) for i in range(2))
            middle = project((a + b) / 2, training=True)
            assert np.allclose(middle, (project(a) + project(b)) / 2, atol=1e-5) == straight
            np.testing.assert_allclose(project(a, training=True)[:1], project(a[:1], training=True), atol=1e-5)

    def test_starts_with_an_exact_copy(self):
        method = moco()
        for ours, theirs in method.key_encoder.pairs:
            np.testing.assert_array_equal(ours, theirs)

    def test_key_encoder_moves_first_towards_the_weights_from_before_the_update(self):
        method = moco(momentum=0.9)
        for ours, _ in method.key_encoder.pairs:
            ours.assign(ours + 0.1)  # apart from the query encoder, so that a move is seen
        old = [(np.array(k), np.array(q)) for k, q in method.key_encoder.pairs]
        method.train_step(batch_of(method))
        for (key, query), (old_key, old_query) in zip(method.key_encoder.pairs, old, strict=True):
            np.testing.assert_allclose(key, 0.9 * old_key + 0.1 * old_query, atol=1e-7)
            assert not np.array_equal(query, old_query)

    def test_keys_join_the_queue_after_the_loss(self):
        method = moco()
        before = np.array(method.queue.read())
        batch = batch_of(method)
        logs = method.train_step(batch)
        after = np.array(method.queue.read())
        np.testing.assert_array_equal(after[16:], before[16:])
        np.testing.assert_allclose(np.linalg.norm(after, axis=1), np.ones(64), rtol=1e-5)
        assert int(method.queue.pointer) == 16
        # the loss saw the queue as it was: recompute it with the old queue and the new keys
        fresh = moco()
        outputs = fresh.forward(batch, training=True)
        again = fresh.loss(outputs, {**batch, "keys": tf.constant(after[:16])})
        assert float(again["loss"]) == pytest.approx(float(logs["loss"]), abs=1e-4)

    def test_no_gradient_reaches_key_encoder_or_queue(self):
        method = moco(momentum=1.0)
        before = values(method)
        method.train_step(batch_of(method))
        moved = changed(method, before)
        assert identities(method.trainable_variables) <= moved
        assert not identities(key for key, _ in method.key_encoder.pairs) & moved

    @pytest.mark.parametrize(("size", "expected"), [(65536, 11.0904), (4096, 8.3180)])
    def test_equal_logits_cost_log_of_queue_and_key(self, size, expected):
        method = moco(queue=size)
        unit = np.zeros((16, 128), "float32")
        unit[:, 0] = 1
        method.queue.keys.assign(np.tile(unit[:1], (size, 1)))
        logs = method.loss({"query": tf.constant(unit)}, {"keys": tf.constant(unit)})
        assert float(logs["loss"]) == pytest.approx(expected, abs=1e-3)

    def test_unshuffle_undoes_shuffle_and_the_order_changes_with_the_step(self):
        method = moco()
        x = tf.random.normal((16, 3))
        shuffled, order = method.shuffle(x, tf.range(16, dtype=tf.int64))
        assert not np.array_equal(shuffled, x)
        np.testing.assert_array_equal(method.unshuffle(shuffled, order), x)
        assert not np.array_equal(order, method.shuffle(x, tf.range(16, 32, dtype=tf.int64))[1])

    def test_groups_have_batch_statistics_of_their_own(self):
        """Split BN is the encoder run on each half; and it is not the encoder run on the whole."""
        method = moco(momentum=1.0)
        batch = batch_of(method)
        shuffled, order = method.shuffle(batch["key"], batch["seed"])
        halves = [method.key_encoder(half, training=True) for half in tf.split(shuffled, 2)]
        expected = tf.math.l2_normalize(tf.concat(halves, axis=0), axis=-1)
        np.testing.assert_allclose(method.encode_keys(batch), method.unshuffle(expected, order), atol=1e-5)
        shared = moco(momentum=1.0, batch_norm="shared")
        assert np.abs(shared.encode_keys(batch) - method.encode_keys(batch)).max() > 1e-3
        with split_batch_statistics(1):
            whole = tf.math.l2_normalize(shared.key_encoder(batch["key"], training=True), axis=-1)
        np.testing.assert_allclose(shared.encode_keys(batch), whole, atol=1e-5)

    def test_refuses_groups_that_do_not_divide_over_the_replicas(self, monkeypatch):
        method = moco(groups=3)
        monkeypatch.setattr("kzoo.replicas.count", lambda: 2)
        with pytest.raises(StrategyError, match=r"method.options.groups: 3 groups do not divide over 2 replicas$"):
            method.batch_statistics(None)

    def test_refuses_groups_that_do_not_divide_over_the_accumulated_parts(self):
        method = moco(groups=2)
        method.compile(keras.optimizers.SGD(0.05), accumulate=4)
        with pytest.raises(StrategyError, match="2 groups do not divide over 1 replicas x 4 accumulated parts"):
            method.train_step(batch_of(method))

    def test_refuses_a_batch_that_does_not_divide_by_the_groups(self):
        method = moco(groups=3)
        with pytest.raises(StrategyError, match=r"train.batch_size: 16 does not divide by 3, method.options.groups"):
            method.train_step(batch_of(method))

    def test_refuses_a_queue_that_is_no_multiple_of_the_batch(self):
        method = moco(queue=40)
        with pytest.raises(OptionsError, match="queue: 40 is not a multiple of the global batch 16"):
            method.train_step(batch_of(method))

    def test_a_batch_in_two_parts_has_the_same_groups(self):
        """Two groups in one pass, or one in each of two parts: the same losses, the same weights."""
        traces = []
        for parts in (1, 2):
            method = moco(groups=2)
            method.compile(keras.optimizers.SGD(0.05), accumulate=parts)
            batch = batch_of(method)
            logs = [float(method.train_step(batch)["loss"]) for _ in range(2)]
            traces.append((logs, [np.array(v) for v in method.trainable_variables]))
        assert traces[0][0] == pytest.approx(traces[1][0], abs=1e-4)
        for one, two in zip(traces[0][1], traces[1][1], strict=True):
            np.testing.assert_allclose(one, two, atol=1e-4)

    def test_chance_is_equal_logits(self):
        assert moco(queue=4096).chance() == pytest.approx({"loss": 8.3180, "accuracy": 1 / 4097}, abs=1e-4)
        assert moco(queue=4096, decoupled=True).chance()["loss"] == pytest.approx(math.log(4096))

    def test_decoupled_the_key_leaves_the_denominator(self):
        method = moco(decoupled=True, temperature=1.0)
        query, keys = (tf.math.l2_normalize(tf.random.normal((16, 128)), axis=1) for _ in range(2))
        logits = query.numpy() @ method.queue.read().numpy().T
        expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.sum(query.numpy() * keys.numpy(), axis=1))
        assert float(method.loss({"query": query}, {"keys": keys})["loss"]) == pytest.approx(expected, rel=1e-4)

    def test_finds_the_key_of_each_query_once_the_queue_is_real(self):
        method = moco(momentum=0.9, temperature=0.2)
        method.compile(keras.optimizers.Adam(1e-3))
        history = method.fit(images(64), batch_size=16, epochs=6, verbose=0).history
        # from the second epoch on the queue holds an old key of every image: chance is 1 of 65
        assert history["accuracy"][-1] > 0.5
        assert history["loss"][-1] < math.log(65)

    def test_the_heads_output_is_clearly_worse_than_what_goes_downstream(self):
        """As many numbers, from the end of the head and from before it: what the loss asks of its last layer is less
        than what tells digits apart."""
        keras.utils.set_random_seed(0)
        train, test = (
            kzoo.open_dataset("digits", split, limit=size) for split, size in (("train", 2000), ("test", 500))
        )
        backbone = kzoo.build_backbone("convnet4", input_shape=(28, 28, 1), width=32)
        crops = {"scale": (0.3, 1.0), "flip": 0.0, "blur_p": 0.0, "greyscale_p": 0.0, "jitter_p": 0.0}
        method = kzoo.build_method(
            "moco_v2", backbone, projector=(32, 32), queue=256, groups=2, momentum=0.9, view=crops
        )
        method.compile(keras.optimizers.Adam(3e-3))
        method.fit(train, batch_size=64, epochs=3, steps_per_epoch=31, verbose=0)
        before = [embed(backbone, evaluation_batches(source, 250)) for source in (train, test)]
        after = [replace(found, features=method.projector(found.features).numpy()) for found in before]
        head, downstream = (linear_probe(*features)["test_accuracy"] for features in (after, before))
        assert head < downstream - 0.03
