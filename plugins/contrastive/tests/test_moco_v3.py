"""MoCo v3: its symmetric loss, its two architectures, the frozen patch projection and the rising momentum."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization
from kzoo.testing import fakes
from kzoo.testing.tiny import tiny_backbone

BATCH = 8


def images(count=BATCH):
    return fakes.images(count, cell=4)


def build(backbone=None, **options):
    keras.utils.set_random_seed(0)
    settings = {"projector": (32, 16), "predictor": (32, 16), **options}
    method = kzoo.build_method("moco_v3", backbone or tiny_backbone((16, 16, 3)), **settings)
    method.compile(keras.optimizers.SGD(0.1), total_steps=100)
    return method


def vit(**options):
    return build(kzoo.build_backbone("vit_tiny", input_shape=(16, 16, 3), depth=1), **options)


def batch_of(method):
    return fakes.batch_of(method, images())


def unit(rows, width, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, width))
    return tf.constant((x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32"))


@pytest.fixture(scope="module")
def method():
    return build()


class TestLoss:
    @pytest.mark.parametrize(("temperature", "expected"), [(0.2, 6.6542), (1.0, 33.2711)])
    def test_equal_logits_cost_4_t_log_of_the_batch(self, method, temperature, expected):
        same = tf.tile(tf.one_hot([0], 4), [4096, 1])
        names = ("query_0", "query_1"), ("key_0", "key_1")
        other = build(temperature=temperature) if temperature != 1.0 else method
        logs = other.loss(dict.fromkeys(names[0], same), dict.fromkeys(names[1], same))
        assert float(logs["loss"]) == pytest.approx(expected, abs=1e-3)

    def test_each_query_is_compared_with_the_other_views_keys(self, method):
        first, second = unit(BATCH, 16), unit(BATCH, 16, seed=1)
        crossed = method.loss({"query_0": first, "query_1": second}, {"key_0": second, "key_1": first})
        logits = first.numpy() @ first.numpy().T
        one = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
        logits = second.numpy() @ second.numpy().T
        two = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
        assert float(crossed["loss"]) == pytest.approx(2 * one + 2 * two, rel=1e-5)
        assert float(crossed["accuracy"]) == 1.0

    def test_is_symmetric_in_the_views(self, method):
        q, r, k, c = (unit(BATCH, 16, seed) for seed in range(4))
        one = method.loss({"query_0": q, "query_1": r}, {"key_0": k, "key_1": c})["loss"]
        other = method.loss({"query_0": r, "query_1": q}, {"key_0": c, "key_1": k})["loss"]
        assert float(one) == pytest.approx(float(other), rel=1e-6)


class TestStep:
    def test_key_encoder_moves_first_towards_the_weights_from_before_the_update(self):
        method = build(momentum=0.9)
        for ours, _ in method.key_encoder.pairs:
            ours.assign(ours + 0.1)
        old = [(np.array(k), np.array(q)) for k, q in method.key_encoder.pairs]
        method.train_step(batch_of(method))
        for (key, query), (old_key, old_query) in zip(method.key_encoder.pairs, old, strict=True):
            np.testing.assert_allclose(key, 0.9 * old_key + 0.1 * old_query, atol=1e-7)
            assert not np.array_equal(query, old_query)

    def test_momentum_rises_to_1_by_half_a_cosine(self, method):
        found = []
        for step in (0, 25, 50, 100):
            method.optimizer.iterations.assign(step)
            found.append(float(method.value(method.options.momentum)))
        quarter = 1 - 0.01 * (math.cos(math.pi / 4) + 1) / 2
        assert found == pytest.approx([0.99, quarter, 0.995, 1.0], abs=1e-6)
        method.optimizer.iterations.assign(0)

    def test_momentum_stays_where_the_end_is_not_known(self):
        method = build()
        method.compile(keras.optimizers.SGD(0.1))
        assert float(method.value(method.options.momentum)) == pytest.approx(0.99)


class TestHeads:
    def test_of_a_resnet(self, method):
        kinds = [type(layer) for layer in method.projector.layers]
        dense, norm, relu = keras.layers.Dense, BatchNormalization, keras.layers.ReLU
        assert kinds == [dense, norm, relu, dense, norm]
        assert not method.projector.layers[-1].center
        assert not method.projector.layers[-1].scale
        assert [type(layer) for layer in method.predictor.layers] == [dense, norm, relu, dense]
        layers = [*method.projector.layers, *method.predictor.layers]
        assert not any(layer.use_bias for layer in layers if isinstance(layer, dense))

    def test_of_a_vit(self):
        method = build(projector=(32, 32, 16), predictor_norm=True)
        assert sum(isinstance(layer, keras.layers.Dense) for layer in method.projector.layers) == 3
        last = method.predictor.layers[-1]
        assert isinstance(last, BatchNormalization)
        assert not last.center
        assert not last.scale

    def test_must_end_alike(self):
        with pytest.raises(OptionsError, match="must end as wide as the projector, 16"):
            build(predictor=(32, 8))


class TestPatchProjection:
    def test_stays_as_it_was_here_and_in_the_copy(self):
        method = vit()
        layer = method.backbone.get_layer("patches")
        kernel = np.array(layer.kernel)
        assert not any(variable is layer.kernel for variable in method.trainable_variables)
        for _ in range(2):
            method.train_step(batch_of(method))
        np.testing.assert_array_equal(layer.kernel, kernel)
        np.testing.assert_array_equal(method.key_encoder.models[0].get_layer("patches").kernel, kernel)
        again = type(method).from_config(method.get_config())
        assert len(again.trainable_variables) == len(method.trainable_variables)

    def test_learns_where_it_is_not_frozen(self):
        method = vit(freeze_patches=False)
        kernel = np.array(method.backbone.get_layer("patches").kernel)
        method.train_step(batch_of(method))
        assert not np.array_equal(method.backbone.get_layer("patches").kernel, kernel)

    def test_a_convolutional_network_has_none(self, method):
        assert method.patch_projection() is None
        assert method.backbone.trainable_variables[0] is method.backbone.layers[1].kernel


def test_shows_which_key_each_query_finds(method):
    shown = method.visualise({}, batch_of(method))
    assert list(shown) == ["query", "key", "key chosen", ""]
    outputs, keys = method.forward(batch_of(method), training=False), method.keys(batch_of(method), training=False)
    chosen = np.argmax(outputs["query_0"].numpy() @ keys["key_1"].numpy().T, axis=1)
    np.testing.assert_array_equal(shown["key chosen"], shown["key"][chosen])
    assert shown[""] == ["right" if i == own else "wrong" for own, i in enumerate(chosen)]
