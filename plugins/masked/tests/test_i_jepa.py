"""I-JEPA: what is predicted, from what, and who teaches."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_masked.i_jepa import smooth_l1, spread

import kzoo
from kzoo import patches
from kzoo.errors import OptionsError
from kzoo.layers import TransformerBlock
from kzoo.testing import fakes
from kzoo.testing.tiny import tiny_backbone, tiny_vision_transformer

BATCH, SIZE, TOKENS, WIDTH = 4, 64, 64, 16
SMALL = {"predictor_width": 16, "predictor_depth": 1, "predictor_heads": 2}


def images(count=BATCH):
    return fakes.images(count, SIZE)


def build(rate=0.1, **options):
    keras.utils.set_random_seed(0)
    method = kzoo.build_method("i_jepa", tiny_vision_transformer((SIZE, SIZE, 3)), **{**SMALL, **options})
    method.compile(keras.optimizers.SGD(rate), total_steps=8)
    return method


def batch_of(method, pictures=None):
    return fakes.batch_of(method, images() if pictures is None else pictures)


def repainted(image, numbers):
    """The images with other pixels in some patches, int [B, k]."""
    cut = patches.patchify(image, 8).numpy()
    for row, places in enumerate(numbers):
        cut[row, places] = 1.0 - cut[row, places]
    return patches.unpatchify(tf.constant(cut), 8, (8, 8))


@pytest.fixture(scope="module")
def method():
    return build()


class TestLoss:
    def answer(self, method, difference):
        """The loss where the answers are the targets plus something."""
        batch = batch_of(method)
        drawn = method.masks(batch)
        taught = tf.random.stateless_normal((BATCH, TOKENS, WIDTH), (0, 1))
        wanted = tf.stack([tf.gather(taught[row], drawn.target[row]) for row in range(BATCH)])
        outputs = {"predicted": wanted + difference, "target": drawn.target, "real": drawn.real}
        return float(method.loss(outputs, {**batch, "taught": taught})["loss"])

    @pytest.mark.parametrize(("difference", "loss"), [(0.0, 0.0), (0.5, 0.125), (-2.0, 1.5)])
    def test_of_an_offset(self, method, difference, loss):
        assert self.answer(method, difference) == pytest.approx(loss, abs=1e-6)

    def test_an_answer_of_0_to_gaussian_targets_costs_0_4247(self, method):
        values = tf.random.stateless_normal((400_000,), (0, 1))
        assert float(tf.reduce_mean(smooth_l1(values))) == pytest.approx(0.4247, abs=0.003)
        assert method.chance() == {"loss": 0.4247}

    def test_what_fills_small_blocks_up_does_not_count(self, method):
        batch = batch_of(method)
        outputs = method.forward(batch, training=True)
        assert not tf.reduce_all(outputs["real"])
        wrong = tf.where(outputs["real"][..., None], outputs["predicted"], 1e6)
        taught = method.targets(batch, training=True)
        first, second = (
            float(method.loss({**outputs, "predicted": some}, {**batch, "taught": taught})["loss"])
            for some in (outputs["predicted"], wrong)
        )
        assert first == second

    def test_what_fills_small_blocks_up_does_not_change_answers(self, method, monkeypatch):
        """They are seen by no other: where they lie does not matter."""
        batch = batch_of(method)
        outputs = method.forward(batch, training=True)
        drawn = method.masks(batch)
        moved = drawn._replace(target=tf.where(drawn.real, drawn.target, 0))
        monkeypatch.setattr(type(method), "masks", lambda self, batch: moved)
        again = method.forward(batch, training=True)
        real = drawn.real.numpy()
        np.testing.assert_allclose(outputs["predicted"].numpy()[real], again["predicted"].numpy()[real], atol=1e-5)


class TestWhatIsSeen:
    def test_pixels_of_targets_have_no_influence_on_the_answers(self, method):
        batch = batch_of(method)
        drawn = method.masks(batch)
        hidden = [drawn.target[row].numpy()[drawn.real[row].numpy()] for row in range(BATCH)]
        other = repainted(batch["image"], hidden)
        first, second = (method.forward({**batch, "image": some}, training=True) for some in (batch["image"], other))
        np.testing.assert_array_equal(first["predicted"], second["predicted"])
        seen = repainted(batch["image"], drawn.context.numpy())
        third = method.forward({**batch, "image": seen}, training=True)
        assert np.abs(first["predicted"] - third["predicted"]).max() > 1e-3

    def test_the_encoder_computes_on_the_context_alone(self, method, monkeypatch):
        seen = []
        call = TransformerBlock.call
        monkeypatch.setattr(
            TransformerBlock, "call", lambda self, x, *more: seen.append(tuple(x.shape[:2])) or call(self, x, *more)
        )
        method.forward(batch_of(method), training=True)
        most = 12  # of 64 patches in a target
        assert seen == [(BATCH, 16)] * 2 + [(4 * BATCH, 16 + most)]

    def test_answers_depend_on_the_place_asked_for(self, method):
        outputs = method.forward(batch_of(method), training=True)
        assert np.std(outputs["predicted"][0, 0], axis=0).max() > 1e-3


class TestTeacher:
    def test_targets_are_normalised_over_features_and_have_no_gradient(self, method):
        with tf.GradientTape() as tape:
            targets = method.targets(batch_of(method), training=True)
        np.testing.assert_allclose(np.mean(targets, axis=-1), 0.0, atol=1e-5)
        np.testing.assert_allclose(np.std(targets, axis=-1), 1.0, atol=1e-3)
        assert all(g is None for g in tape.gradient(targets, [v.value for v in method.backbone.trainable_variables]))

    def test_targets_are_of_the_whole_image(self, method):
        batch = batch_of(method)
        tokens = method.teacher.models[0](batch["image"])["tokens"].numpy()
        expected = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(method.targets(batch, training=True), expected, atol=1e-4)

    def test_it_follows_the_student_after_the_step(self):
        method = build(momentum=0.9)
        before = [np.array(ours) for ours, _ in method.teacher.pairs]
        method.train_step(batch_of(method))
        moved = 0.0
        for was, (ours, theirs) in zip(before, method.teacher.pairs, strict=True):
            np.testing.assert_allclose(ours, 0.9 * was + 0.1 * np.array(theirs), atol=1e-6)
            moved = max(moved, np.abs(np.array(theirs) - was).max())
        assert moved > 1e-4

    def test_its_momentum_rises_to_one_in_a_straight_line(self, method):
        found = []
        for step in (0, 2, 4, 8):
            method.optimizer.iterations.assign(step)
            found.append(float(method.value(method.options.momentum)))
        method.optimizer.iterations.assign(0)
        np.testing.assert_allclose(found, [0.996, 0.997, 0.998, 1.0], atol=1e-6)

    def test_it_goes_downstream_its_tokens_averaged(self):
        method = build(momentum=1.0)
        pictures = images()
        before = method(pictures)
        method.train_step(batch_of(method))
        np.testing.assert_array_equal(method(pictures), before)
        tokens = method.teacher.models[0](pictures / np.float32(255))["tokens"]
        np.testing.assert_allclose(before, np.mean(tokens, axis=1), atol=1e-6)

    def test_without_a_slow_teacher_it_collapses(self):
        """Negative control: with momentum 0 the targets of different images soon are alike."""
        spreads = []
        for momentum in (0.0, 0.99):
            method = build(momentum=momentum)
            method.compile(keras.optimizers.Adam(3e-3), total_steps=100)
            batch = batch_of(method, images(8))
            step = tf.function(method.train_step, autograph=False)
            spreads.append([float(step(batch)["spread"]) for _ in range(25)][-1])
        assert spreads[0] < 0.7 * spreads[1]


def test_spread_is_over_images():
    tokens = tf.random.stateless_normal((64, 10, 20), (0, 1))
    assert float(spread(tokens)) == pytest.approx(1.0, abs=0.03)
    assert float(spread(tf.repeat(tokens[:1], 64, axis=0))) == pytest.approx(0.0, abs=1e-3)


def test_a_backbone_without_patches_is_refused_by_name():
    with pytest.raises(OptionsError, match=r"i_jepa: needs a backbone that can do token_subset, .*; 'tiny' cannot"):
        kzoo.build_method("i_jepa", tiny_backbone((32, 32, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_scale": (0.2, 0.1)}, "expected 0 < low <= high; received 0.2, 0.1"),
        ({"scale": (0.5, 1.5)}, "expected shares of at most 1; received 1.5"),
        ({"context": 0.9}, "context: 57 of 8 x 8 patches, and only 37 are sure to be left"),
    ],
)
def test_ranges_that_cannot_be_are_refused(options, message):
    with pytest.raises(OptionsError, match=message):
        build(**options)
