"""The variational autoencoder: the two terms in closed form, the reparametrisation, and what it must beat."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_generative.vae import VAE, kl_divergence

import kzoo
from kzoo.testing.fakes import batch_of


def build(size=16, channels=1, **options):
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("convnet4", input_shape=(size, size, channels), width=16)
    return kzoo.build_method("vae", backbone=backbone, **{"latent": 8, "decoder_width": 8, **options})


def squares(count, size=16):
    """A bright square in one of the four quarters, on black."""
    pictures = np.zeros((count, size, size, 1), "uint8")
    half = size // 2
    for index, picture in enumerate(pictures):
        top, left = divmod(index % 4, 2)
        picture[top * half : (top + 1) * half, left * half : (left + 1) * half] = 255
    return pictures


@pytest.fixture(scope="module")
def method():
    return build()


@pytest.fixture(scope="module")
def batch(method):
    return batch_of(method, np.random.default_rng(0).integers(0, 256, (64, 16, 16, 1)).astype("uint8"))


@pytest.mark.parametrize(
    ("mean", "log_variance", "nats"),
    [(0.0, 0.0, 0.0), (1.0, 0.0, 0.5), (0.0, np.log(4.0), 0.5 * (4 - 1 - np.log(4.0))), (0.0, np.log(4.0), 0.8069)],
)
def test_the_divergence_in_closed_form(mean, log_variance, nats):
    found = kl_divergence(tf.constant([mean]), tf.constant([log_variance], tf.float32))
    assert float(found[0]) == pytest.approx(nats, abs=1e-4)


def test_divergence_and_likelihood_are_summed_over_the_image_and_the_code(method, batch):
    outputs = {
        "mean": tf.ones((64, 8)),
        "log_variance": tf.zeros((64, 8)),
        "logits": tf.zeros((64, 16, 16, 1)),
    }
    logs = method.loss(outputs, batch)
    assert float(logs["kl"]) == pytest.approx(8 * 0.5)
    assert float(logs["reconstruction"]) == pytest.approx(256 * np.log(2), rel=1e-5)
    assert float(logs["loss"]) == pytest.approx(4 + 256 * np.log(2), rel=1e-5)


def test_the_gaussian_likelihood_is_half_the_squared_error(batch):
    method = build(likelihood="gaussian", beta=2.0)
    outputs = {"mean": tf.ones((64, 8)), "log_variance": tf.zeros((64, 8)), "logits": tf.zeros((64, 16, 16, 1))}
    error = 0.5 * np.square(batch["image"].numpy() - 0.5).sum(axis=(1, 2, 3)).mean()
    assert float(method.loss(outputs, batch)["loss"]) == pytest.approx(error + 2 * 4, rel=1e-5)


def test_the_loss_for_a_value_is_that_for_an_image_over_its_values(method, batch):
    outputs = {"mean": tf.ones((64, 8)), "log_variance": tf.zeros((64, 8)), "logits": tf.zeros((64, 16, 16, 1))}
    whole, each = method.loss(outputs, batch), build(per="value").loss(outputs, batch)
    for name in ("loss", "reconstruction", "kl", "prior_loss"):
        assert float(each[name]) == pytest.approx(float(whole[name]) / 256, rel=1e-5)
    assert each["active"] == whole["active"]


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_reference_is_the_loss_of_the_mean_picture_and_no_code(likelihood):
    method = build(channels=3, likelihood=likelihood)
    batch = batch_of(method, np.random.default_rng(1).integers(0, 200, (16, 16, 16, 3)).astype("uint8"))
    mean = batch["image"].numpy().mean(axis=(0, 1, 2))
    logits = np.broadcast_to(np.log(mean / (1 - mean)), (16, 16, 16, 3)).astype("float32")
    nothing = tf.zeros((16, 8))
    logs = method.loss({"mean": nothing, "log_variance": nothing, "logits": tf.constant(logits)}, batch)
    assert float(logs["prior_loss"]) == pytest.approx(float(logs["loss"]), rel=1e-4)
    assert float(logs["active"]) == 0.0  # the alarm: a posterior that says nothing


def test_active_dimensions_are_those_that_say_something(method, batch):
    mean = tf.concat([tf.ones((64, 2)), tf.zeros((64, 6))], axis=1)
    outputs = {"mean": mean, "log_variance": tf.zeros((64, 8)), "logits": tf.zeros((64, 16, 16, 1))}
    assert float(method.loss(outputs, batch)["active"]) == 0.25


def test_the_gradient_passes_the_draw():
    mean, log_variance = tf.zeros((5, 3)), tf.fill((5, 3), 0.7)
    seed = tf.range(5, dtype=tf.int64)
    with tf.GradientTape() as tape:
        tape.watch([mean, log_variance])
        z = VAE.sample(mean, log_variance, seed)
    by_mean, by_log_variance = tape.gradient(z, [mean, log_variance])
    noise = z / tf.exp(0.35)
    np.testing.assert_allclose(by_mean, np.ones((5, 3)))
    np.testing.assert_allclose(by_log_variance, 0.5 * noise * tf.exp(0.35), rtol=1e-5)


def test_noise_is_normal_and_differs_between_examples_and_steps():
    zeros = tf.zeros((4096, 4))
    first = VAE.sample(zeros, zeros, tf.range(4096, dtype=tf.int64)).numpy()
    later = VAE.sample(zeros, zeros, tf.range(4096, 8192, dtype=tf.int64)).numpy()
    assert first.mean() == pytest.approx(0, abs=0.04)
    assert first.std() == pytest.approx(1, abs=0.03)
    assert abs(np.corrcoef(first[:, 0], later[:, 0])[0, 1]) < 0.05
    assert len(np.unique(first[:, 0])) > 4000


def test_downstream_is_the_mean(method, batch):
    outputs = method.forward(batch, training=False)
    np.testing.assert_allclose(method(batch["image"]), outputs["mean"], atol=1e-6)
    np.testing.assert_array_equal(method(batch["image"]), method(batch["image"]))
    assert method.encoder.output["embedding"].shape == (None, 8)
    assert "map" in method.encoder.output  # still there to be probed


def test_log_variance_is_clipped(method, batch):
    layer = method.coder.get_layer("log_variance")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, bias + 50])
    assert float(tf.reduce_max(method.forward(batch, training=False)["log_variance"])) == 10.0
    layer.set_weights([kernel, bias])


def test_gradient_reaches_everything(method, batch):
    method.compile(keras.optimizers.SGD(1e-3))
    before = [np.array(v) for v in method.trainable_variables]
    method.train_step(batch)
    assert all(not np.array_equal(v, old) for v, old in zip(method.trainable_variables, before, strict=True))


def test_learns_to_beat_the_decoder_without_a_code():
    method = build(latent=4)
    method.compile(keras.optimizers.Adam(3e-3))
    pictures = squares(64)
    history = method.fit(pictures, batch_size=32, epochs=75, verbose=0).history
    held_out = method.test_step(batch_of(method, pictures, 10**6))
    assert history["loss"][0] > 0.9 * history["prior_loss"][0]
    assert float(held_out["loss"]) < 0.3 * float(held_out["prior_loss"])  # log 4 nats of code against 144 of pixels
    assert float(held_out["active"]) >= 0.25  # two of the dimensions would do
    assert float(held_out["kl"]) > 0.9 * np.log(4)  # it must name one of four
