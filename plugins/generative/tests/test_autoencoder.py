"""The autoencoder against the variance of the data and the PCA floor."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.data import array_source
from kzoo.plugins.registry import find_method
from kzoo.plugins.targets import resolve
from kzoo.testing import fakes
from kzoo.testing.fakes import batch_of


def images(count=64, size=16, channels=1, seed=0):
    return fakes.images(count, size, channels, seed, cell=4)


def build(size=16, channels=1, **options):
    return fakes.build("autoencoder", backbone="convnet4", shape=(size, size, channels), **options)


def test_predicting_the_mean_costs_the_variance():
    method, pictures = build(channels=3), images(channels=3)
    batch = batch_of(method, pictures)
    target = batch["target"].numpy()
    mean = np.broadcast_to(target.mean(axis=(0, 1, 2)), target.shape)
    logs = method.loss({"reconstruction": tf.constant(mean)}, batch)
    assert float(logs["loss"]) == pytest.approx(target.var(axis=(0, 1, 2)).mean(), rel=1e-5)
    assert float(logs["variance"]) == pytest.approx(float(logs["loss"]), rel=1e-4)


def test_a_linear_autoencoder_reaches_the_pca_floor():
    """k = 3 of 81 values: the residual is the sum of the eigenvalues past the third, over 81.

    Three patterns of random brightness on 21 pixels each, noise, and a black rim.
    """
    rng = np.random.default_rng(0)
    patterns = np.repeat(np.eye(3), 21, axis=1)
    pictures = (rng.uniform(0, [190, 160, 130], (256, 3)) @ patterns + rng.uniform(0, 60, (256, 63))).round()
    pictures = np.pad(pictures.astype("uint8").reshape(-1, 9, 7, 1), ((0, 0), (0, 0), (1, 1), (0, 0)))
    flat = pictures.reshape(256, 81) / 255.0
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(flat.T, bias=True)))[::-1]
    floor = eigenvalues[3:].sum() / 81
    image = keras.Input((9, 9, 1))
    linear = keras.Model(image, {"embedding": keras.layers.Flatten()(image)})
    spec = find_method("autoencoder")
    keras.utils.set_random_seed(0)
    method = resolve(spec)(linear, bottleneck=3, decoder="linear")
    method.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.03, 800)))
    method.fit(pictures, batch_size=256, epochs=1, steps_per_epoch=800, verbose=0)
    loss = method.test_step(batch_of(method, pictures))["loss"]
    assert float(loss) == pytest.approx(floor, rel=0.02)
    figures = method.extra_metrics(array_source("patterns", pictures), None)
    assert figures["pca_error"] == pytest.approx(floor, rel=1e-3)
    assert figures["reconstruction_error"] == pytest.approx(float(loss), rel=1e-4)
    assert floor < 0.5 * flat.var(axis=0).mean()  # and the floor is far below what no code at all would reach


def test_learns_to_rebuild_below_the_variance():
    pictures = images(16)
    method = build(bottleneck=16)
    method.compile(keras.optimizers.Adam(3e-3))
    losses = method.fit(pictures, batch_size=16, epochs=100, verbose=0).history["loss"]
    variance = (pictures / 255.0).var(axis=0).mean()
    assert losses[-1] < 0.5 * variance


def test_the_code_decides_the_picture_and_goes_downstream():
    method = build()
    outputs = method.forward(batch_of(method, images(4)), training=False)
    assert outputs["code"].shape == (4, 64)
    np.testing.assert_allclose(method(images(4)), outputs["code"], atol=1e-6)
    moved = method.decoder(outputs["code"] + 1.0, training=False)
    assert np.abs(moved - outputs["reconstruction"]).max() > 1e-3


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (28, 1), (32, 3), (50, 3), (64, 3)])
def test_what_comes_out_has_the_shape_of_what_went_in(size, channels):
    pictures = np.random.default_rng(0).integers(0, 256, (2, size, size, channels)).astype("uint8")
    rebuilt = build(size, channels, decoder_width=4).reconstruct(pictures)
    assert rebuilt.shape == pictures.shape
    assert 0 <= float(tf.reduce_min(rebuilt)) <= float(tf.reduce_max(rebuilt)) <= 1


def test_denoising_corrupts_the_input_and_keeps_the_target():
    pictures = np.full((64, 16, 16, 3), 128, "uint8")
    masked = batch_of(build(channels=3, masked=0.25), pictures)
    np.testing.assert_allclose(masked["target"], np.full(pictures.shape, 128 / 255), rtol=1e-6)
    gone = masked["image"].numpy() == 0
    assert gone.mean() == pytest.approx(0.25, abs=0.02)
    assert (gone.all(axis=-1) == gone.any(axis=-1)).all()  # pixels, not single channels
    noisy = batch_of(build(channels=3, noise=0.1), pictures)
    difference = noisy["image"].numpy() - noisy["target"].numpy()
    assert difference.std() == pytest.approx(0.1, rel=0.02)
    assert np.abs(difference[0] - difference[1]).max() > 0.1


def test_the_code_reads_the_places_of_the_last_map():
    """Where there is none it reads the embedding, as from a vision transformer."""
    method = build(32)
    assert method.coder.get_layer("code").kernel.shape == (2 * 2 * 64, 64)
    transformer = kzoo.build_backbone("vit_tiny", input_shape=(16, 16, 1), depth=1)
    method = kzoo.build_method("autoencoder", transformer)
    assert method.coder.get_layer("code").kernel.shape == (192, 64)


def test_gradient_reaches_everything():
    method = build()
    method.compile(keras.optimizers.SGD(0.1))
    before = [np.array(v) for v in method.trainable_variables]
    method.train_step(batch_of(method, images()))
    assert all(not np.array_equal(v, old) for v, old in zip(method.trainable_variables, before, strict=True))
