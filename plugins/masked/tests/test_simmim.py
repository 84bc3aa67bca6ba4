"""SimMIM: which squares are hidden, that they are, and what an answer costs."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import patches
from kzoo.errors import OptionsError
from kzoo.testing import fakes
from kzoo.testing.tiny import tiny_backbone, tiny_vision_transformer

BATCH, SIZE, VALUES = 4, 32, 8 * 8 * 3


def images(count=BATCH, size=SIZE):
    return fakes.images(count, size)


def build(size=SIZE, **options):
    keras.utils.set_random_seed(0)
    backbone = tiny_vision_transformer((size, size, 3))
    method = kzoo.build_method("simmim", backbone, **{"scale": (1.0, 1.0), "flip": 0.0, **options})
    method.compile(keras.optimizers.SGD(0.1), total_steps=8)
    return method


def batch_of(method, pictures=None):
    return fakes.batch_of(method, images() if pictures is None else pictures)


@pytest.fixture(scope="module")
def method():
    return build()


class TestMask:
    @pytest.mark.parametrize(
        ("side", "square", "squares", "patch_count"),
        [(192, 32, 22, 22 * 16), (224, 32, 30, 30 * 16), (64, 8, 39, 39), (32, 16, 3, 12)],
    )
    def test_six_tenths_of_the_squares_rounded_up(self, side, square, squares, patch_count):
        """22 of 36 at 192 pixels, 30 of 49 at 224 (with patches of 16, 120 of 196), 39 of 64."""
        method = build(size=side, square=square)
        n, times = side // square, square // 8
        hidden = method.hidden({"image": tf.zeros((3, side, side, 3)), "seed": tf.range(3, dtype=tf.int64)}).numpy()
        assert hidden.sum(1).tolist() == [patch_count] * 3
        whole = hidden.reshape(3, n, times, n, times)
        assert whole.all(axis=(2, 4)).sum(axis=(1, 2)).tolist() == [squares] * 3
        assert not np.array_equal(hidden[0], hidden[1])

    def test_hidden_pixels_have_no_influence(self, method):
        batch = batch_of(method)
        hidden = method.hidden(batch)
        cut = patches.patchify(batch["image"], 8)
        other = patches.unpatchify(tf.where(hidden[..., None], 1.0 - cut, cut), 8, (4, 4))
        first, second = (method.forward({**batch, "image": some}, training=True) for some in (batch["image"], other))
        np.testing.assert_array_equal(first["predicted"], second["predicted"])
        seen = patches.unpatchify(tf.where(hidden[..., None], cut, 1.0 - cut), 8, (4, 4))
        third = method.forward({**batch, "image": seen}, training=True)
        assert np.abs(first["predicted"] - third["predicted"]).max() > 1e-3

    def test_all_tokens_are_encoded(self, method):
        assert method.forward(batch_of(method), training=True)["predicted"].shape == (BATCH, 16, VALUES)

    @pytest.mark.parametrize("square", [12, 24, 32])
    def test_squares_that_do_not_tile_are_refused(self, square):
        message = f"simmim: square: {square} must be a multiple of the backbone's patches of 8 and a divisor of 32"
        with pytest.raises(OptionsError, match=message):
            build(square=square)


class TestLoss:
    def blank(self, method, image):
        batch = {"image": image, "seed": tf.range(len(image), dtype=tf.int64)}
        outputs = {"predicted": tf.zeros((len(image), 16, VALUES)), "hidden": method.hidden(batch)}
        return float(method.loss(outputs, batch)["loss"])

    def test_an_answer_of_0_to_one_colour_costs_its_value(self, method):
        assert self.blank(method, tf.fill((2, SIZE, SIZE, 3), 0.7)) == pytest.approx(0.7, rel=1e-5)

    def test_an_answer_of_0_to_gaussian_pixels_costs_the_mean_of_their_size(self, method):
        """sqrt(2 / pi) = 0.7979."""
        pixels = tf.random.stateless_normal((64, SIZE, SIZE, 3), (0, 1))
        assert self.blank(method, pixels) == pytest.approx(math.sqrt(2 / math.pi), abs=0.01)

    def test_channels_are_normalised(self):
        method = build(mean=(0.5, 0.5, 0.5), std=(0.1, 0.2, 0.4))
        expected = np.mean([0.2 / 0.1, 0.2 / 0.2, 0.2 / 0.4])
        assert self.blank(method, tf.fill((2, SIZE, SIZE, 3), 0.7)) == pytest.approx(expected, rel=1e-5)

    def test_is_that_of_hidden_pixels_by_hand(self, method):
        batch = batch_of(method)
        outputs = method.forward(batch, training=True)
        drawn = patches.unpatchify(outputs["predicted"], 8, (4, 4)).numpy().astype("float64")
        where = np.repeat(np.repeat(outputs["hidden"].numpy().reshape(BATCH, 4, 4), 8, axis=1), 8, axis=2)
        error = np.abs(drawn - batch["image"].numpy()) * where[..., None]
        assert where.sum() == BATCH * 10 * 64  # 10 of 16 squares
        assert float(method.loss(outputs, batch)["loss"]) == pytest.approx(error.sum() / where.sum() / 3, rel=1e-5)

    def test_the_vector_in_the_place_of_patches_learns(self):
        method = build()
        before = np.array(method.mask_token.vector)
        method.train_step(batch_of(method))
        assert np.abs(np.array(method.mask_token.vector) - before).max() > 0

    def test_it_falls_on_one_batch_of_smooth_images(self):
        slopes = np.linspace(0, 255, SIZE)[None, :, None] * np.ones((1, 1, SIZE))
        pictures = np.stack([slopes[0], slopes[0].T, 255 - slopes[0], 255 - slopes[0].T])
        method = build()
        batch = batch_of(method, np.repeat(pictures[..., None], 3, axis=3).astype("uint8"))
        method.compile(keras.optimizers.Adam(3e-3), total_steps=300)
        step = tf.function(method.train_step, autograph=False)
        losses = [float(step(batch)["loss"]) for _ in range(200)]
        assert losses[-1] < 0.2 * losses[0]


def test_downstream_is_the_mean_of_the_tokens_of_whole_images(method):
    pictures = images()
    tokens = method.backbone(pictures / np.float32(255))["tokens"]
    np.testing.assert_allclose(method(pictures), np.mean(tokens, axis=1), atol=1e-6)


def test_a_class_token_is_not_what_goes_downstream():
    backbone = kzoo.build_backbone("vit_tiny", (8, 8, 3), depth=1)
    method = kzoo.build_method("simmim", backbone)
    pictures = images(2, 8)
    outputs = backbone(pictures / np.float32(255))
    np.testing.assert_allclose(method(pictures), np.mean(outputs["tokens"], axis=1), atol=1e-5)
    assert np.abs(method(pictures) - outputs["embedding"]).max() > 0.01


def test_what_is_seen_is_kept_in_the_picture(method):
    batch = batch_of(method)
    shown = method.visualise({}, batch)
    where = patches.patchify(tf.constant(shown["seen"]), 8).numpy() == 0.5
    hidden = method.hidden(batch).numpy()
    assert where[hidden].all()
    image, rebuilt = (patches.patchify(tf.constant(shown[key]), 8).numpy() for key in ("image", "rebuilt"))
    np.testing.assert_allclose(rebuilt[~hidden], image[~hidden], atol=1e-6)
    assert np.abs(rebuilt[hidden] - image[hidden]).mean() > 0.01


def test_a_backbone_without_patches_is_refused_by_name():
    with pytest.raises(OptionsError, match=r"simmim: needs a backbone that can do masked_tokens, .*; 'tiny' cannot"):
        kzoo.build_method("simmim", tiny_backbone((32, 32, 3)))
