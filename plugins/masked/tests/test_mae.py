"""MAE: what is hidden, what is predicted of it, and that the encoder never sees it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import patches
from kzoo.errors import OptionsError
from kzoo.layers import TransformerBlock
from kzoo.testing import fakes
from kzoo.testing.tiny import tiny_backbone, tiny_vision_transformer

BATCH, SIZE, TOKENS, VALUES = 4, 32, 16, 8 * 8 * 3
SMALL = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}


def images(count=BATCH, size=SIZE, channels=3):
    return fakes.images(count, size, channels)


def build(channels=3, **options):
    keras.utils.set_random_seed(0)
    backbone = tiny_vision_transformer((SIZE, SIZE, channels))
    method = kzoo.build_method("mae", backbone, **{**SMALL, "scale": (1.0, 1.0), "flip": 0.0, **options})
    method.compile(keras.optimizers.SGD(0.1), total_steps=8)
    return method


def batch_of(method, pictures=None):
    return fakes.batch_of(method, images(channels=method.backbone.input_shape[-1]) if pictures is None else pictures)


@pytest.fixture(scope="module")
def method():
    return build()


class TestMask:
    def test_of_196_patches_49_are_kept_and_147_hidden(self, method):
        """ViT-B/16 at 224 pixels."""
        keys = tf.range(8, dtype=tf.int64)
        kept, hidden = method.split({"image": tf.zeros((8, 14 * 8, 14 * 8, 3)), "seed": keys})
        assert kept.shape == (8, 49)
        assert hidden.shape == (8, 147)
        every = np.sort(np.concatenate([kept, hidden], axis=1), axis=1)
        np.testing.assert_array_equal(every, np.tile(np.arange(196), (8, 1)))
        assert len({tuple(row) for row in kept.numpy()}) == 8  # others for each image

    def test_each_patch_is_kept_equally_often(self, method):
        keys = tf.range(2000, dtype=tf.int64)
        kept, _ = method.split({"image": tf.zeros((2000, SIZE, SIZE, 3)), "seed": keys})
        shares = np.bincount(np.ravel(kept), minlength=TOKENS) / 2000
        np.testing.assert_allclose(shares, 0.25, atol=0.05)  # deviation 0.0097

    def test_hidden_pixels_have_no_influence_on_the_encoder(self, method):
        batch = batch_of(method)
        kept, hidden = method.split(batch)
        cut = patches.patchify(batch["image"], 8).numpy()
        np.put_along_axis(
            cut, hidden.numpy()[..., None], 1.0 - np.take_along_axis(cut, hidden.numpy()[..., None], 1), 1
        )
        other = patches.unpatchify(tf.constant(cut), 8, (4, 4))
        assert np.abs(other - batch["image"]).max() > 0.1
        for name, value in patches.encode_kept(method.backbone, batch["image"], kept).items():
            np.testing.assert_array_equal(value, patches.encode_kept(method.backbone, other, kept)[name])
        first, second = (method.forward({**batch, "image": some}, training=True) for some in (batch["image"], other))
        np.testing.assert_array_equal(first["predicted"], second["predicted"])

    def test_the_encoder_computes_on_a_quarter_and_the_decoder_on_all(self, method, monkeypatch):
        seen = []
        call = TransformerBlock.call
        monkeypatch.setattr(
            TransformerBlock, "call", lambda self, x, *more: seen.append(x.shape[1]) or call(self, x, *more)
        )
        method.forward(batch_of(method), training=True)
        assert seen == [4, 4, 17]  # two blocks on 4 of 16 patches; one on all and the embedding

    def test_the_embedding_is_that_of_all_patches(self, method):
        pictures = images()
        np.testing.assert_array_equal(method(pictures), method.backbone(pictures / np.float32(255))["embedding"])


class TestLoss:
    def test_an_answer_of_0_costs_1_less_1_nth(self, method):
        """Of patches of 16 * 16 * 3 values: 767 / 768 = 0.9987."""
        batch = batch_of(method)
        _, hidden = method.split(batch)
        logs = method.loss({"predicted": tf.zeros((BATCH, 12, VALUES)), "hidden": hidden}, batch)
        assert float(logs["loss"]) == pytest.approx((VALUES - 1) / VALUES, rel=1e-4)
        assert float(logs["variance"]) == pytest.approx((VALUES - 1) / VALUES, rel=1e-4)

    def test_a_patch_of_one_colour_is_0(self, method):
        flat = {"image": tf.fill((1, SIZE, SIZE, 3), 0.7)}
        assert np.abs(method.target(flat["image"])).max() < 1e-3

    def test_is_that_of_hidden_patches_by_hand(self, method):
        batch = batch_of(method)
        outputs = method.forward(batch, training=True)
        total = 0.0
        for row in range(BATCH):
            for answer, number in zip(outputs["predicted"][row].numpy(), outputs["hidden"][row].numpy(), strict=True):
                top, left = 8 * (number // 4), 8 * (number % 4)
                patch = batch["image"][row, top : top + 8, left : left + 8].numpy().astype("float64").ravel()
                wanted = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
                total += np.mean((answer - wanted) ** 2) / (BATCH * 12)
        assert float(method.loss(outputs, batch)["loss"]) == pytest.approx(total, rel=1e-5)

    def test_visible_pixels_do_not_enter(self, method):
        batch = batch_of(method)
        outputs = method.forward(batch, training=True)
        kept, _ = method.split(batch)
        cut = patches.patchify(batch["image"], 8).numpy()
        np.put_along_axis(cut, kept.numpy()[..., None], 0.25, 1)
        painted = {**batch, "image": patches.unpatchify(tf.constant(cut), 8, (4, 4))}
        assert float(method.loss(outputs, painted)["loss"]) == float(method.loss(outputs, batch)["loss"])

    def test_pixels_as_they_are_by_the_channels_mean_and_deviation(self):
        method = build(normalise_patches=False, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.5))
        target = method.target(tf.ones((1, SIZE, SIZE, 3)))
        np.testing.assert_allclose(target[0, 0, :3], [5.0, 3.0, 1.4], rtol=1e-5)

    def test_it_falls_below_a_fifth_on_one_batch_of_smooth_images(self):
        """By far: a gradient's slope continues into what is hidden."""
        slopes = np.linspace(0, 255, SIZE)[None, :, None] * np.ones((1, 1, SIZE))
        pictures = np.stack([slopes[0], slopes[0].T, 255 - slopes[0], 255 - slopes[0].T])
        method = build(decoder_width=32)
        batch = batch_of(method, np.repeat(pictures[..., None], 3, axis=3).astype("uint8"))
        method.compile(keras.optimizers.Adam(3e-3), total_steps=300)
        step = tf.function(method.train_step, autograph=False)
        losses = [float(step(batch)["loss"]) for _ in range(200)]
        assert losses[-1] < 0.2 * losses[0]


class TestDecoder:
    def test_what_it_answers_for_a_place_does_not_depend_on_the_order_of_places(self, method):
        tokens, whole = tf.random.stateless_normal((1, 3, 16), (0, 1)), tf.zeros((1, 16))
        places, asked = tf.constant([[3, 7, 1]]), tf.constant([[0, 9]])
        first = method.decoder(tokens, places, asked, grid=(4, 4), whole=whole)
        order = [2, 0, 1]
        again = method.decoder(
            tf.gather(tokens, order, axis=1), tf.gather(places, order, axis=1), asked[:, ::-1], grid=(4, 4), whole=whole
        )
        np.testing.assert_allclose(first, again[:, ::-1], atol=1e-5)
        elsewhere = method.decoder(tokens, places, tf.constant([[5, 9]]), grid=(4, 4), whole=whole)
        assert np.abs(first[:, 0] - elsewhere[:, 0]).max() > 1e-4

    def test_widths_that_cannot_be_are_refused(self):
        with pytest.raises(OptionsError, match="decoder: a width of 18 must divide by 4 and by its 2 heads"):
            build(decoder_width=18)


def test_true_predictions_rebuild_the_image(method):
    batch = batch_of(method)
    outputs = method.forward(batch, training=False)
    wanted = tf.gather(method.target(batch["image"]), outputs["hidden"], batch_dims=1)
    method.forward = lambda *args, **kwargs: {**outputs, "predicted": wanted}
    try:
        shown = method.visualise({}, batch)
    finally:
        del method.forward
    np.testing.assert_allclose(shown["rebuilt"], shown["image"], atol=1e-5)
    grey = np.all(shown["seen"] == 0.5, axis=-1).mean()
    assert grey == pytest.approx(0.75, abs=0.01)


def test_what_is_rebuilt_is_in_0_to_1_where_channels_were_normalised():
    method = build(normalise_patches=False, mean=(0.5,) * 3, std=(0.2,) * 3)
    batch = batch_of(method)
    rebuilt = method.visualise({}, batch)["rebuilt"]
    _, hidden = method.split(batch)
    true, shown = patches.patchify(batch["image"], 8).numpy(), patches.patchify(tf.constant(rebuilt), 8).numpy()
    kept = np.ones((BATCH, TOKENS), bool)
    np.put_along_axis(kept, hidden.numpy(), values=False, axis=1)
    np.testing.assert_allclose(shown[kept], true[kept], atol=1e-5)
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_a_backbone_without_patches_is_refused_by_name():
    with pytest.raises(OptionsError, match=r"mae: needs a backbone that can do token_subset, .*; 'tiny' cannot"):
        kzoo.build_method("mae", tiny_backbone((32, 32, 3)))


def test_means_of_other_channels_are_refused():
    with pytest.raises(OptionsError, match="mae: mean: 3 values for images of 1 channels"):
        build(channels=1, mean=(0.5,) * 3, std=(0.2,) * 3)
    with pytest.raises(OptionsError, match="mean and std go together"):
        build(mean=(0.5,))


def test_images_of_one_patch_are_refused():
    with pytest.raises(OptionsError, match="mae: images are one patch of 8 pixels: nothing can be hidden"):
        kzoo.build_method("mae", tiny_vision_transformer((8, 8, 3)))
