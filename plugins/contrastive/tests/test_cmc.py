"""CMC: what each view sees, which bank it is asked about, and what goes downstream."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_contrastive.cmc import lab_view

import kzoo
from kzoo.color import rgb_to_lab
from kzoo.errors import OptionsError, RecipeError
from kzoo.recipe.load import load
from kzoo.testing import fakes

EXAMPLES, BATCH = 24, 8


def images(count=EXAMPLES):
    return fakes.images(count, cell=4)


def _grating(period):
    """Lab images whose lightness is a cosine along x, of amplitude 25 around 50."""
    wave = 50 + 25 * np.cos(2 * np.pi * np.arange(24) / period)
    return tf.constant(np.broadcast_to(np.stack([wave, 0 * wave, 0 * wave], axis=-1), (1, 16, 24, 3)).astype("float32"))


def build(channels=3, **options):
    settings = {"projector": (16,), "noise": 12, **options}
    facts = kzoo.DataFacts(examples=EXAMPLES)
    return fakes.build("cmc", shape=(16, 16, channels), data=facts, learning_rate=0.05, **settings)


def batch_of(method):
    return fakes.batch_of(method, images()[:BATCH])


@pytest.fixture(scope="module")
def method():
    return build()


class TestViews:
    def test_are_scaled_to_the_range_of_all_colours(self):
        corners = np.array(list(itertools.product((0.0, 1.0), repeat=3)), "float32").reshape(1, 2, 4, 3)
        lab = rgb_to_lab(tf.constant(corners))
        lightness, colour = lab_view(lab, "l").numpy(), lab_view(lab, "ab").numpy()
        for view in (lightness, colour):
            assert view.min() >= -1e-4
            assert view.max() <= 1 + 1e-4
        # black and white have lightness 0 and 1; both ends of a and of b are corners of the cube
        assert (lightness.min(), lightness.max()) == pytest.approx((0, 1), abs=1e-4)
        np.testing.assert_allclose(colour[..., :2].min(axis=(0, 1, 2)), 0, atol=2e-3)
        np.testing.assert_allclose(colour[..., :2].max(axis=(0, 1, 2)), 1, atol=2e-3)

    def test_grey_is_the_authors_zero_of_a_and_b(self):
        grey = lab_view(rgb_to_lab(tf.fill([1, 1, 1, 3], 0.5)), "ab").numpy().ravel()
        normalised = 2 * grey[:2] - 1
        np.testing.assert_allclose(normalised, [-6.025 / 92.208, 6.6895 / 101.1675], atol=1e-4)
        assert grey[2] == 0

    def test_one_channel_comes_three_times(self):
        lab = rgb_to_lab(tf.constant(images(2) / np.float32(255)))
        for name, channel in (("l", 0), ("b", 2)):
            view = lab_view(lab, name).numpy()
            both = lab_view(lab, "ab").numpy()[..., 1] if name == "b" else lab.numpy()[..., channel] / 100
            np.testing.assert_allclose(view, np.repeat(both[..., None], 3, axis=-1), atol=1e-6)

    def test_low_and_high_frequencies_add_up_to_the_lightness(self):
        lab = rgb_to_lab(tf.constant(images(2) / np.float32(255)))
        low, high = (lab_view(lab, view, 2.0, 1).numpy() for view in ("low", "high"))
        np.testing.assert_allclose(low + 2 * high - 1, lab_view(lab, "l", channels=1).numpy(), atol=1e-5)
        wave = lab_view(_grating(period=4), "low", 1.0, 1).numpy()[:, :, 4:-4]
        assert np.ptp(wave) == pytest.approx(0.5 * np.exp(-0.5 * (2 * np.pi / 4) ** 2), rel=0.02)  # of the Gaussian

    def test_a_flat_image_has_no_high_frequencies_to_its_very_rim(self):
        flat = rgb_to_lab(tf.fill([1, 9, 12, 3], 0.7))
        np.testing.assert_allclose(lab_view(flat, "high", 1.5, 1), 0.5, atol=1e-6)
        np.testing.assert_allclose(lab_view(flat, "low", 1.5, 3), lab_view(flat, "l"), atol=1e-6)

    def test_share_crop_and_flip(self, method):
        """An image whose colours follow from its lightness has views that follow from each other, pixel by pixel."""
        ramp = np.tile(np.arange(256, dtype="uint8").reshape(16, 16, 1), (BATCH, 1, 1, 3)) // np.array(
            [1, 2, 4], "uint8"
        )
        ids = tf.range(BATCH, dtype=tf.int64)
        ready = method.pretext({"image": tf.constant(ramp)}, ids, method.options)
        reference = rgb_to_lab(tf.constant(np.linspace(0, 1, 4096)[:, None] * [1, 0.5, 0.25])).numpy()
        expected = np.interp(ready["l"].numpy()[..., 0] * 100, reference[:, 0], reference[:, 1])
        a = ready["ab"].numpy()[..., 0] * 2 * 92.208 + 6.025 - 92.208
        np.testing.assert_allclose(a, expected, atol=2.0)
        assert np.ptp(ready["l"].numpy()[..., 0], axis=(1, 2)).max() > 0.3

    def test_no_colour_is_changed(self, method):
        """What the views have in common is the scene: a jitter would leave its own mark in both."""
        flat = images().mean(axis=(1, 2), keepdims=True).astype("uint8")[:BATCH] * np.ones((1, 16, 16, 1), "uint8")
        ready = method.pretext({"image": tf.constant(flat)}, tf.range(BATCH, dtype=tf.int64), method.options)
        lab = rgb_to_lab(tf.constant(flat / np.float32(255)))
        for view in ("l", "ab"):
            np.testing.assert_allclose(ready[view], lab_view(lab, view), atol=1e-4)

    def test_must_differ(self):
        with pytest.raises(OptionsError, match="expected different views"):
            build(views=("l", "l"))


class TestEncoders:
    def test_are_new_for_each_view(self, method):
        first, second = method.encoders
        assert first is method.backbone
        assert not np.allclose(first.layers[1].kernel, second.layers[1].kernel)
        assert [w.shape for w in first.weights] == [w.shape for w in second.weights]

    @pytest.mark.parametrize(("view", "channels"), [("l", 1), ("ab", 2)])
    def test_equal_a_first_layer_of_the_views_own_channels(self, view, channels):
        lab = rgb_to_lab(tf.constant(images(2) / np.float32(255)))
        kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 5)).astype("float32")
        own = kernel.sum(axis=2, keepdims=True) if view == "l" else kernel[:, :, :2]
        seen = lab_view(lab, view)
        np.testing.assert_allclose(
            tf.nn.conv2d(seen, kernel, 1, "SAME"), tf.nn.conv2d(seen[..., :channels], own, 1, "SAME"), atol=1e-4
        )

    def test_one_view_does_not_see_the_other(self, method):
        batch = batch_of(method)
        clean = method.forward(batch, training=False)
        broken = method.forward({**batch, "ab": tf.random.uniform(batch["ab"].shape)}, training=False)
        np.testing.assert_array_equal(clean["l"], broken["l"])
        assert not np.allclose(clean["ab"], broken["ab"])

    def test_downstream_takes_rgb_and_joins_all_outputs(self, method):
        rgb = tf.constant(images(3) / np.float32(255))
        lab = rgb_to_lab(rgb)
        found = method.encoder(rgb, training=False)
        parts = [e(lab_view(lab, v), training=False) for v, e in zip(("l", "ab"), method.encoders, strict=True)]
        assert set(found) == set(parts[0])
        for key, value in found.items():
            np.testing.assert_allclose(value, np.concatenate([part[key] for part in parts], axis=-1), atol=1e-5)
        np.testing.assert_allclose(method(tf.constant(images(3))), found["embedding"], atol=1e-5)

    def test_a_saved_encoder_answers_the_same(self, method, tmp_path):
        method.encoder.save(tmp_path / "encoder.keras")
        again = keras.saving.load_model(tmp_path / "encoder.keras")
        rgb = images(3) / np.float32(255)
        np.testing.assert_allclose(again(rgb)["embedding"], method.encoder(rgb)["embedding"], atol=1e-6)


class TestLoss:
    @pytest.mark.parametrize(
        ("views", "graph", "pairs"),
        [(("l", "ab"), "full", 2), (("l", "a", "b"), "full", 6), (("l", "a", "b"), "core", 4)],
    )
    def test_uniform_probabilities_cost_the_closed_form_of_each_pair(self, views, graph, pairs):
        method = build(views=views, graph=graph, noise=4096)
        same = tf.tile(tf.one_hot([0], 16), [BATCH, 1])
        for bank in method.banks:
            bank.entries.assign(np.tile(same[:1], (EXAMPLES, 1)))
        batch = {"id": tf.range(BATCH, dtype=tf.int64), "seed": tf.range(BATCH, dtype=tf.int64)}
        loss = method.loss(dict.fromkeys(views, same), batch)["loss"]
        assert float(loss) == pytest.approx(pairs * 9.3179, abs=2e-3 * pairs)

    def test_without_noise_it_is_the_softmax_over_the_other_bank(self):
        method = build(noise=None, temperature=0.5)
        batch = batch_of(method)
        outputs = method.forward(batch, training=False)
        expected = 0.0
        for view, bank in (("l", method.banks[1]), ("ab", method.banks[0])):
            scores = outputs[view].numpy() @ np.array(bank.entries).T / 0.5
            expected += np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(BATCH), np.arange(BATCH)])
        assert float(method.loss(outputs, batch)["loss"]) == pytest.approx(expected, rel=1e-5)
        for bank in method.banks:
            bank.entries.assign(np.tile(np.eye(16, dtype="float32")[:1], (EXAMPLES, 1)))
        assert float(method.loss(outputs, batch)["loss"]) == pytest.approx(2 * np.log(EXAMPLES), rel=1e-5)

    def test_each_view_is_asked_about_the_other_views_bank(self):
        """Where L's features are ab's entries and the reverse, every own entry scores highest."""
        method = build(noise=3)
        own = [np.array(bank.entries)[:BATCH] for bank in method.banks]
        batch = {"id": tf.range(BATCH, dtype=tf.int64), "seed": tf.range(BATCH, dtype=tf.int64)}
        l_, ab = (entries / np.linalg.norm(entries, axis=1, keepdims=True) for entries in own)
        crossed = method.loss({"l": tf.constant(ab), "ab": tf.constant(l_)}, batch)
        straight = method.loss({"l": tf.constant(l_), "ab": tf.constant(ab)}, batch)
        assert float(crossed["accuracy"]) == 1.0
        assert float(straight["accuracy"]) < 0.7
        assert float(crossed["loss"]) < float(straight["loss"])

    def test_a_step_moves_each_bank_by_its_own_view(self):
        method = build()
        batch = batch_of(method)
        features = method.forward(batch, training=True)
        old = [np.array(bank.entries) for bank in method.banks]
        expected = method.loss(features, batch)
        logs = method.train_step(batch)
        assert float(logs["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-4)
        for view, bank, before in zip(("l", "ab"), method.banks, old, strict=True):
            blended = 0.5 * before[:BATCH] + 0.5 * features[view].numpy()
            blended /= np.linalg.norm(blended, axis=1, keepdims=True)
            np.testing.assert_allclose(np.array(bank.entries)[:BATCH], blended, atol=1e-5)
            np.testing.assert_array_equal(np.array(bank.entries)[BATCH:], before[BATCH:])
        constants = [float(contrast.constant) for contrast in method.noise_contrasts]
        assert min(constants) > 0
        assert constants[0] != constants[1]

    def test_both_encoders_learn(self):
        method = build()
        before = [np.array(v) for v in method.trainable_variables]
        method.train_step(batch_of(method))
        assert len(before) == len(method.backbone.trainable_variables) * 2 + 4
        for variable, old in zip(method.trainable_variables, before, strict=True):
            assert not np.array_equal(variable, old), variable.path

    def test_learns_which_colours_belong_to_which_shapes(self):
        method = build(temperature=0.2, momentum=0.0, view={"scale": (0.8, 1.0), "flip": 0.0})
        method.compile(keras.optimizers.Adam(3e-3))
        history = method.fit(images(), batch_size=BATCH, epochs=20, verbose=0).history
        assert history["accuracy"][-1] > 2.5 / 13  # of 13 entries that are compared
        assert history["loss"][-1] < history["loss"][0]


class TestGrey:
    def test_coarse_and_fine_find_each_other(self):
        method = build(1, views=("low", "high"), temperature=0.2, momentum=0.0, view={"scale": (0.8, 1.0), "flip": 0.0})
        method.compile(keras.optimizers.Adam(3e-3))
        history = method.fit(images()[..., :1], batch_size=BATCH, epochs=20, verbose=0).history
        assert history["accuracy"][-1] > 2.5 / 13  # of 13 entries that are compared
        grey = images(3)[..., :1] / np.float32(255)
        lab = rgb_to_lab(tf.repeat(grey, 3, axis=-1))
        found = method.encoder(grey)["embedding"]
        parts = [e(lab_view(lab, v, 1.0, 1)) for v, e in zip(("low", "high"), method.encoders, strict=True)]
        np.testing.assert_allclose(found, np.concatenate([p["embedding"] for p in parts], axis=-1), atol=1e-5)

    def test_is_refused_where_a_view_is_of_colours(self, tmp_path):
        with pytest.raises(OptionsError, match=r"^cmc: needs images of 3 channel\(s\); the backbone takes 1$"):
            build(1, views=("l", "a"))
        recipe = tmp_path / "grey.yaml"
        text = "name: grey\ndata: {name: fashion_mnist}\nbackbone: {name: small_resnet}\nmethod: {name: cmc}\n"
        recipe.write_text(text)
        with pytest.raises(RecipeError, match=r"'fashion_mnist' has 1 channel.*'cmc' needs 3"):
            load(recipe)
        recipe.write_text(text.replace("{name: cmc}", "{name: cmc, options: {views: [low, high]}}"))
        assert load(recipe).method.options["views"] == ["low", "high"]
