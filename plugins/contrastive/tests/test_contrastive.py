"""SimCLR and MoCo against the closed forms and the step order of their papers."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.errors import StrategyError
from kzoo.layers import BatchNormalization, split_batch_statistics


def images(count=16, size=16, channels=3, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (count, size // 4, size // 4, channels))
    return coarse.astype("uint8").repeat(4, 1).repeat(4, 2)


def build(name, size=16, channels=3, **options):
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("convnet4", input_shape=(size, size, channels))
    return kzoo.build_method(name, backbone=backbone, **options)


def batch_of(method, count=16, seed=0):
    raw = {"image": tf.constant(images(count)), "id": tf.range(count, dtype=tf.int64)}
    return method.transform(raw, tf.range(seed, seed + count, dtype=tf.int64))


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


class TestSimCLR:
    def test_views_differ_between_themselves_and_examples_and_repeat_under_a_seed(self):
        method = build("simclr")
        raw = {"image": tf.constant(np.repeat(images(1), 4, axis=0))}
        seed = tf.range(4, dtype=tf.int64)
        ready = method.pretext(raw, seed, method.options)
        for view in ("view_0", "view_1"):
            assert ready[view].shape == (4, 16, 16, 3)
            assert 0 <= float(tf.reduce_min(ready[view])) <= float(tf.reduce_max(ready[view])) <= 1
        assert np.abs(ready["view_0"] - ready["view_1"]).mean() > 0.01
        assert np.abs(ready["view_0"][0] - ready["view_0"][1]).mean() > 0.01
        np.testing.assert_array_equal(ready["view_1"], method.pretext(raw, seed, method.options)["view_1"])

    def test_the_head_is_the_papers(self):
        head = build("simclr").projector.layers
        kinds = [type(layer) for layer in head]
        assert kinds == [
            keras.layers.Dense,
            BatchNormalization,
            keras.layers.ReLU,
            keras.layers.Dense,
            BatchNormalization,
        ]
        assert not head[0].use_bias
        assert not head[3].use_bias
        assert (head[0].units, head[3].units) == (2048, 128)
        assert not head[4].center
        assert head[4].scale
        assert float(np.std(head[0].kernel)) == pytest.approx(0.01, rel=0.05)

    def test_both_views_share_one_batch_normalisation(self):
        """One forward pass of 2B: the mean of the output over both views is 0, not over each."""
        method = build("simclr")
        outputs = method.forward(batch_of(method), training=True)
        both = np.concatenate([outputs["z_0"], outputs["z_1"]])
        np.testing.assert_allclose(both.mean(axis=0), np.zeros(128), atol=1e-4)
        assert np.abs(outputs["z_0"].numpy().mean(axis=0)).max() > 1e-3

    def test_collapsed_projections_cost_log_of_the_others(self):
        method = build("simclr")
        same = tf.ones((16, 128))
        logs = method.loss({"z_0": same, "z_1": same}, {})
        assert float(logs["loss"]) == pytest.approx(math.log(31), abs=1e-4)

    def test_gradient_reaches_backbone_and_head(self):
        method = build("simclr")
        method.compile(keras.optimizers.SGD(0.1))
        before = values(method)
        method.train_step(batch_of(method))
        assert identities(method.trainable_variables) <= changed(method, before)

    def test_learns_one_batch(self):
        method = build("simclr", temperature=0.5, projector=(64, 32))
        method.compile(keras.optimizers.Adam(3e-3))
        step, batch = tf.function(method.train_step), batch_of(method)
        first = float(step(batch)["loss"])
        for _ in range(60):
            last = step(batch)
        bound = math.log(1 + 30 * math.exp(-2 / 0.5 * 16 / 31))  # near what evenly spread negatives allow
        assert float(last["loss"]) < bound + 0.35 * (first - bound)
        assert float(last["accuracy"]) == 1.0

    def test_works_on_grey_images_of_another_size(self):
        method = build("simclr", size=28, channels=1)
        method.compile("adam")
        history = method.fit(images(8, 28, 1), batch_size=8, verbose=0)
        assert np.isfinite(history.history["loss"]).all()


class TestMoCo:
    @pytest.mark.parametrize(
        ("name", "widths", "temperature", "blur"), [("moco_v1", (128,), 0.07, 0.0), ("moco_v2", (2048, 128), 0.2, 0.5)]
    )
    def test_defaults_are_the_papers(self, name, widths, temperature, blur):
        method = moco(name)
        dense = [layer for layer in method.projector.layers if isinstance(layer, keras.layers.Dense)]
        assert tuple(layer.units for layer in dense) == widths
        assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in method.projector.layers)
        assert method.options.temperature == temperature
        assert method.options.view.blur_p == blur
        assert type(method.options)().queue == 65536
        assert method.options.momentum == 0.999

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
        with pytest.raises(StrategyError, match=r"method.options.groups: 3 groups do not divide over 2 replicas"):
            method.batch_statistics()

    def test_finds_the_key_of_each_query_once_the_queue_is_real(self):
        method = moco(momentum=0.9, temperature=0.2)
        method.compile(keras.optimizers.Adam(1e-3))
        history = method.fit(images(64), batch_size=16, epochs=6, verbose=0).history
        # from the second epoch on the queue holds an old key of every image: chance is 1 of 65
        assert history["accuracy"][-1] > 0.5
        assert history["loss"][-1] < math.log(65)
