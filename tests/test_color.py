import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.color import RGBToLab, lab_to_rgb, rgb_to_lab


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
        ((0.0, 1.0, 0.0), (87.74, -86.18, 83.18)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
    ],
)
def test_reference_colours(rgb, lab):
    np.testing.assert_allclose(rgb_to_lab(tf.constant([rgb], tf.float64))[0], lab, atol=0.05)


def test_grey_has_no_colour():
    grey = np.repeat(np.linspace(0, 1, 11)[:, None], 3, axis=1)
    lab = rgb_to_lab(tf.constant(grey)).numpy()
    assert np.abs(lab[:, 1:]).max() < 1e-6
    assert (np.diff(lab[:, 0]) > 0).all()


def test_there_and_back():
    images = np.random.default_rng(0).uniform(size=(2, 5, 5, 3))
    np.testing.assert_allclose(lab_to_rgb(rgb_to_lab(tf.constant(images))), images, atol=1e-6)


def test_colours_outside_srgb_are_clipped():
    rgb = lab_to_rgb(tf.constant([[50.0, 120.0, -120.0]])).numpy()
    assert rgb.min() >= 0
    assert rgb.max() <= 1


def test_the_gradient_is_finite_at_black_and_white():
    images = tf.constant([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    with tf.GradientTape() as tape:
        tape.watch(images)
        lab = rgb_to_lab(images)
    assert np.isfinite(tape.gradient(lab, images).numpy()).all()


def test_the_layer_reloads():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, RGBToLab()(inputs))
    again = keras.Model.from_config(model.get_config())
    np.testing.assert_allclose(again(np.ones((1, 2, 2, 3), "float32"))[0, 0, 0], [100, 0, 0], atol=1e-3)
