"""data2vec: the smooth distance by hand, targets from the upper blocks, what student and teacher see."""

import numpy as np
import pytest
import tensorflow as tf
from kzoo_distillation.data2vec import normalised

from kzoo.errors import OptionsError
from kzoo.patches import unpatchify

SETTINGS = {"blocks": 2}


@pytest.fixture(scope="module")
def method(masked_method):
    return masked_method("data2vec", **SETTINGS)


@pytest.fixture(scope="module")
def batch(method, batch_of):
    return batch_of(method)


def loss(method, said, taught, hidden=None):
    hidden = tf.ones(said.shape[:2], tf.bool) if hidden is None else tf.constant(hidden)
    logs = method.loss({"said": tf.constant(said, tf.float32), "hidden": hidden}, {"taught": taught})
    return float(logs["loss"])


class TestLoss:
    @pytest.mark.parametrize(("distance", "expected"), [(0.0, 0.0), (1.0, 0.25), (2.0, 1.0), (-3.0, 2.0)])
    def test_is_a_quarter_of_the_square_below_2_and_straight_above(self, method, distance, expected):
        taught = np.random.default_rng(0).normal(size=(2, 4, 16)).astype("float32")
        assert loss(method, taught + distance, taught) == pytest.approx(expected, abs=1e-5)

    def test_an_answer_of_0_to_normal_targets(self, method):
        taught = np.random.default_rng(0).normal(size=(64, 64, 64)).astype("float32")
        assert loss(method, np.zeros_like(taught), taught) == pytest.approx(method.chance()["loss"], abs=0.002)

    def test_is_of_hidden_patches_alone(self, method):
        said = np.zeros((2, 4, 16), "float32")
        said[0, 1:], said[1, 0] = 1.0, 2.0
        hidden = np.array([[True, True, False, False], [False, True, True, True]])
        assert loss(method, said, tf.zeros((2, 4, 16)), hidden) == pytest.approx((0.25 / 2 + 0) / 2, abs=1e-6)


class TestTargets:
    def test_are_the_mean_of_the_upper_blocks_each_normalised(self, masked_method, batch):
        method = masked_method("data2vec", blocks=1)
        last = method.teacher.models[0].get_layer("block_2").output
        block = type(method.backbone)(method.teacher.models[0].input, last)
        np.testing.assert_allclose(method.teach(batch["image"]), normalised(block(batch["image"])), atol=1e-4)
        both = masked_method("data2vec", blocks=2)
        outputs = [both.teacher.models[0].get_layer(f"block_{i}").output for i in (1, 2)]
        first, second = type(method.backbone)(both.teacher.models[0].input, outputs)(batch["image"])
        mean = (normalised(first) + normalised(second)) / 2
        np.testing.assert_allclose(both.teach(batch["image"]), normalised(mean), atol=1e-4)

    def test_have_mean_0_and_variance_1(self, method, batch):
        taught = np.asarray(method.teach(batch["image"]))
        assert taught.shape == (4, 16, 16)
        np.testing.assert_allclose(taught.mean(axis=-1), 0.0, atol=1e-5)
        np.testing.assert_allclose(taught.var(axis=-1), 1.0, atol=1e-3)

    def test_are_of_patches_not_of_a_class_token(self):
        import kzoo

        backbone = kzoo.build_backbone("vit_tiny", input_shape=(16, 16, 3), depth=1)
        method = kzoo.build_method("data2vec", backbone, blocks=1)
        assert method.teach(tf.zeros((2, 16, 16, 3))).shape == (2, 16, 192)
        assert method(np.zeros((2, 16, 16, 3), "uint8")).shape == (2, 192)

    def test_more_blocks_than_there_are_is_an_error(self, masked_method):
        with pytest.raises(OptionsError, match="blocks: 3 are asked for; 'tiny' has 2"):
            masked_method("data2vec", blocks=3)


class TestSight:
    def test_at_most_the_share_is_hidden_of_each_image(self, method, batch_of):
        hidden = np.asarray(method.hidden(batch_of(method, 64, 64)))
        assert hidden.shape == (64, 64)
        assert hidden.sum(axis=1).max() <= 39
        assert hidden.sum(axis=1).mean() > 36

    def test_the_teacher_sees_what_is_hidden_from_the_student(self, method, batch):
        outputs = method.forward(batch, training=False)
        hidden = outputs["hidden"]
        noise = tf.random.stateless_uniform((4, 16, 8 * 8 * 3), (0, 1))
        change = unpatchify(tf.where(hidden[..., None], noise, 0.0), 8, (4, 4))
        other = {**batch, "image": tf.clip_by_value(batch["image"] + change, 0.0, 1.0)}
        np.testing.assert_allclose(method.forward(other, training=False)["said"], outputs["said"], atol=1e-5)
        assert np.abs(method.teach(other["image"]) - method.teach(batch["image"])).max() > 1e-3


def test_the_teacher_follows_after_the_step_and_the_student_goes_downstream(masked_method, batch_of):
    method = masked_method("data2vec", blocks=2, momentum=0.9)
    batch = batch_of(method)
    before = [np.array(ours) for ours, _ in method.teacher.pairs]
    method.train_step(batch)
    for was, (ours, theirs) in zip(before, method.teacher.pairs, strict=True):
        np.testing.assert_allclose(ours, 0.9 * was + 0.1 * np.array(theirs), atol=1e-6)
    tokens = method.backbone(batch["image"])["tokens"]
    found = method.encoder(batch["image"])["embedding"]
    np.testing.assert_allclose(found, tf.reduce_mean(tokens, axis=1), atol=1e-5)
