"""iBOT: block masks, the loss at hidden patches by hand, what student and teacher see, the two centres."""

import math

import numpy as np
import pytest
import tensorflow as tf
from kzoo_distillation.parts.masks import block_mask, patch_loss, smallest_block

from kzoo.errors import OptionsError
from kzoo.patches import unpatchify
from kzoo.testing.tiny import tiny_backbone

SETTINGS = {"head": (16, 8), "prototypes": 12, "local_views": 2, "local_size": 16}


@pytest.fixture(scope="module")
def method(masked_method):
    return masked_method("ibot", **SETTINGS)


@pytest.fixture(scope="module")
def batch(method, batch_of):
    return batch_of(method)


def uniform_outputs(method, hidden):
    count, prototypes = hidden.shape[0], method.options.prototypes
    outputs = {"large": tf.zeros((count, prototypes)), "small": tf.zeros((count, prototypes)), "hidden": hidden}
    taught = {"taught": tf.zeros((count, prototypes)), "taught_patches": tf.zeros((count, 16, prototypes))}
    return {**outputs, "patches": tf.zeros((count, 16, prototypes))}, taught


class TestLoss:
    @pytest.mark.parametrize(("masked", "expected"), [(8, 18.0218), (4, 13.5164), (0, 9.0109)])
    def test_a_uniform_student_costs_log_k_and_that_times_the_share_of_masked_views(
        self, masked_method, masked, expected
    ):
        method = masked_method("ibot", **{**SETTINGS, "prototypes": 8192})
        hidden = tf.repeat(tf.range(8) < masked, 16).numpy().reshape(8, 16)
        hidden[:, 5:] = False  # how many are hidden does not matter
        found = method.loss(*uniform_outputs(method, tf.constant(hidden)))
        assert float(found["loss"]) == pytest.approx(expected, abs=1e-3)
        assert float(found["view_loss"]) == pytest.approx(math.log(8192), rel=1e-4)

    def test_of_patches_is_the_mean_over_hidden_ones_then_over_views(self):
        rng = np.random.default_rng(0)
        taught, said = rng.dirichlet(np.ones(5), (3, 4)), np.log(rng.dirichlet(np.ones(5), (3, 4)))
        hidden = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]], bool)
        crossed = -(taught * said).sum(-1)
        expected = ((crossed[0, 0] + crossed[0, 3]) / 2 + 0 + crossed[2, 1]) / 3
        found = patch_loss(tf.constant(taught), tf.constant(said), tf.constant(hidden))
        assert float(found) == pytest.approx(expected, rel=1e-6)

    def test_each_kind_of_logits_has_its_own_centre(self, method):
        outputs, taught = uniform_outputs(method, tf.ones((4, 16), tf.bool))
        method.centre.value.assign(tf.one_hot(0, 12))
        found = method.loss(outputs, taught)
        method.centre.value.assign(tf.zeros(12))
        assert float(found["patch_entropy"]) == pytest.approx(math.log(12), rel=1e-5)
        assert float(found["entropy"]) < math.log(12) - 0.05


class TestMasks:
    def test_three_tenths_of_14_by_14(self):
        keys = tf.range(4000, dtype=tf.int64)
        hidden = block_mask(keys, (14, 14), tf.fill([4000], 58.8), smallest_block((14, 14)))
        counts = np.sum(hidden, axis=1)
        assert smallest_block((14, 14)) == 16.0
        assert counts.max() == 58
        assert counts.min() >= 42
        assert counts.mean() == pytest.approx(57.27, abs=0.1)
        places = np.mean(hidden, axis=0).reshape(14, 14)
        np.testing.assert_allclose(places, places[::-1, ::-1], atol=0.05)
        np.testing.assert_allclose(places, places.T, atol=0.05)

    def test_are_of_blocks_that_do_not_span_the_grid(self):
        keys = tf.range(500, dtype=tf.int64)
        hidden = np.reshape(block_mask(keys, (8, 8), tf.fill([500], 6.0), 6.0), (500, 8, 8))
        shapes = {(int(np.any(each, 1).sum()), int(np.any(each, 0).sum())) for each in hidden}
        assert {(2, 3), (3, 2)} <= shapes
        assert max(max(shape) for shape in shapes) <= 7

    def test_that_of_an_example_is_the_same_whatever_else_is_in_the_batch(self):
        keys, most = tf.range(50, dtype=tf.int64), tf.linspace(0.0, 40.0, 50)
        every = block_mask(keys, (8, 8), most, 4.0)
        np.testing.assert_array_equal(block_mask(keys[7:9], (8, 8), most[7:9], 4.0), every[7:9])
        assert not np.any(every[0])

    def test_half_of_the_large_views_have_one(self, method, batch_of):
        hidden = np.asarray(method.hidden(batch_of(method, 256)))
        masked = hidden.any(axis=1)
        assert hidden.shape == (512, 16)
        assert masked.mean() == pytest.approx(0.5, abs=0.08)
        assert hidden[masked].sum(axis=1).min() >= 1
        assert hidden.sum(axis=1).max() <= 8
        assert not np.array_equal(hidden[::2], hidden[1::2])


class TestSight:
    def test_the_teacher_sees_what_is_hidden_from_the_student(self, method, batch):
        outputs = method.forward(batch, training=False)
        hidden = outputs["hidden"]
        noise = tf.random.stateless_uniform((8, 16, 8 * 8 * 3), (0, 1))
        change = unpatchify(tf.where(hidden[..., None], noise, 0.0), 8, (4, 4))
        other = {**batch, "large": tf.clip_by_value(batch["large"] + change, 0.0, 1.0)}
        again = method.forward(other, training=False)
        for name in ("large", "patches"):
            np.testing.assert_allclose(again[name], outputs[name], atol=1e-5)
        differences = np.abs(method.teach(other, False)["taught"] - method.teach(batch, False)["taught"]).max(axis=1)
        assert (differences[np.asarray(hidden).any(axis=1)] > 1e-4).all()

    def test_one_head_serves_class_tokens_and_patches(self, method, batch):
        backbone, head = method.teacher.models
        taught = method.teach(batch, training=False)
        tokens = backbone(batch["large"])["tokens"]
        assert taught["taught_patches"].shape == (8, 16, 12)
        np.testing.assert_allclose(taught["taught_patches"][3], head(tokens[3]), atol=1e-5)
        np.testing.assert_allclose(head(backbone(batch["large"])["embedding"]), taught["taught"], atol=1e-5)

    def test_a_backbone_must_be_able_to_hide_patches(self):
        import kzoo

        with pytest.raises(OptionsError, match="masked_tokens"):
            kzoo.build_method("ibot", tiny_backbone((None, None, 3)), **SETTINGS)


class TestStep:
    @pytest.fixture(scope="class")
    def stepped(self, masked_method, batch_of):
        method = masked_method("ibot", **{**SETTINGS, "momentum": 0.9, "freeze_epochs": 0})
        batch = batch_of(method)
        taught = method.teach(batch, training=True)
        before = [np.array(ours) for ours, _ in method.teacher.pairs]
        assert not np.any(method.mask_token.read())
        method.train_step(batch)
        return method, taught, before

    def test_the_centres_follow_what_was_said_of_all_views_and_of_all_patches(self, stepped):
        method, taught, _ = stepped
        np.testing.assert_allclose(method.centre.read(), 0.1 * np.mean(taught["taught"], axis=0), atol=1e-6)
        np.testing.assert_allclose(
            method.patch_centre.read(), 0.1 * np.mean(taught["taught_patches"], axis=(0, 1)), atol=1e-6
        )

    def test_the_teacher_follows_after_the_step(self, stepped):
        method, _, before = stepped
        for was, (ours, theirs) in zip(before, method.teacher.pairs, strict=True):
            np.testing.assert_allclose(ours, 0.9 * was + 0.1 * np.array(theirs), atol=1e-6)

    def test_the_vector_for_hidden_patches_learns(self, stepped):
        assert np.abs(stepped[0].mask_token.read()).max() > 0

    def test_prototypes_wait_apart(self, method):
        groups = method.optimizer_groups()
        assert [variable.path for variable in groups["prototypes"].variables] == [method.head.layers[-1].kernel.path]
        assert groups["prototypes"].frozen_until_epoch == 1
