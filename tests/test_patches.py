"""Patches: their values, their places, and backbones that are shown some of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import patches
from kzoo.errors import OptionsError
from kzoo.testing.tiny import tiny_backbone, tiny_vision_transformer


def images(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype("float32")


def test_patches_are_cut_row_by_row_and_put_together_again():
    x = images(2, 4, 6, 3)
    cut = patches.patchify(tf.constant(x), 2)
    assert cut.shape == (2, 6, 12)
    np.testing.assert_array_equal(cut[1, 4], x[1, 2:4, 2:4].reshape(-1))  # second row, second column
    np.testing.assert_array_equal(patches.unpatchify(cut, 2, (2, 3)), x)


def test_positions_by_hand():
    codes = patches.sine_cosine_positions(2, 3, 8)
    # row 1, column 2; two frequencies, 1 and 1/100
    expected = [np.sin(1), np.sin(0.01), np.cos(1), np.cos(0.01), np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)]
    np.testing.assert_allclose(codes[1, 2], expected, rtol=1e-6)
    assert codes.shape == (2, 3, 8)


def test_a_copy_from_its_configuration_can_what_the_model_can():
    """What a teacher is, and what a file holds."""
    model = tiny_vision_transformer((32, 32, 3))
    copy = keras.Model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    found = patches.patches_of(copy, "token_subset", "masked_tokens")
    assert (found.size, found.width, found.grid(images(1, 32, 32, 3))) == (8, 16, (4, 4))
    x, kept = images(2, 32, 32, 3), tf.constant([[3, 1], [15, 0]])
    np.testing.assert_array_equal(
        patches.encode_kept(copy, x, kept)["tokens"], patches.encode_kept(model, x, kept)["tokens"]
    )


def test_what_is_kept_or_hidden_is_so_in_that_call_alone():
    model, x = tiny_vision_transformer((32, 32, 3)), images(2, 32, 32, 3)
    before = model(x)["tokens"]
    patches.encode_kept(model, x, tf.constant([[0], [1]]))
    with pytest.raises(tf.errors.InvalidArgumentError):
        patches.encode_masked(model, x, tf.ones((2, 15), tf.bool), tf.zeros(16))
    np.testing.assert_array_equal(model(x)["tokens"], before)


def test_a_vector_in_the_place_of_patches_learns():
    model, token = tiny_vision_transformer((32, 32, 3)), tf.Variable(tf.ones(16))
    with tf.GradientTape() as tape:
        tokens = patches.encode_masked(model, images(2, 32, 32, 3), tf.ones((2, 16), tf.bool), token)["tokens"]
        loss = tf.reduce_sum(tokens[..., 0])
    assert np.abs(tape.gradient(loss, token)).max() > 0
    np.testing.assert_allclose(tokens[0], tokens[1], atol=1e-6)  # nothing is left of the images


def test_other_backbones_are_refused_by_name():
    with pytest.raises(OptionsError, match=r"mae: needs a backbone that can do token_subset, .*; 'tiny' cannot$"):
        patches.patches_of(tiny_backbone((32, 32, 3)), "token_subset", method="mae")


def test_images_of_open_size_in_a_graph():
    """As evaluation reads them: nothing but the batch's rank is known when the graph is made."""
    vit = tiny_vision_transformer((None, None, 3))
    images = np.random.default_rng(0).uniform(size=(2, 24, 16, 3)).astype("float32")
    read = tf.function(vit, input_signature=[tf.TensorSpec((None, None, None, 3))], autograph=False)
    np.testing.assert_allclose(read(images)["tokens"], vit(images)["tokens"], atol=1e-5)
