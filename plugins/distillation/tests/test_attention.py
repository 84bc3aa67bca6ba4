"""What the class token looks at, for pictures."""

import keras
import numpy as np
import tensorflow as tf
from kzoo_distillation.parts.attention import class_attention, picture

import kzoo
from kzoo.testing.tiny import tiny_vision_transformer


def test_attention_of_the_class_token():
    """With no weights all tokens get 1 / 5; with queries and keys of ones those of the softmax, computed by hand."""
    vit = kzoo.build_backbone("vit_tiny", (8, 8, 3), depth=2, heads=1)
    images = tf.random.stateless_uniform((2, 8, 8, 3), (0, 0))
    attention = vit.get_layer("block_2").attention
    kernel = attention.query_key_value.kernel
    drawn = kernel.numpy()
    kernel.assign(tf.zeros_like(kernel))
    np.testing.assert_allclose(class_attention(vit, images), np.full((2, 2, 2), 0.2), atol=1e-6)

    kernel.assign(drawn)
    block = vit.get_layer("block_2")
    x = np.asarray(block.attention_norm(keras.Model(vit.input, block.input)(images)))
    query, key = x @ drawn[:, :192], x @ drawn[:, 192:384]
    logits = np.einsum("bd,btd->bt", query[:, 0], key) / np.sqrt(192)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(class_attention(vit, images).reshape(2, 4), shares[:, 1:], atol=1e-5)


def test_encoders_without_a_class_token_have_none():
    images = tf.zeros((1, 32, 32, 3))
    assert class_attention(tiny_vision_transformer((32, 32, 3)), images) is None
    assert class_attention(kzoo.build_backbone("convnet4", (32, 32, 3)), images) is None


def test_the_most_attended_patch_is_white():
    found = picture(np.array([[[0.1, 0.2], [0.0, 0.4]]]), 4)
    assert found.shape == (1, 4, 4, 1)
    np.testing.assert_allclose(found[0, ::2, ::2, 0], [[0.25, 0.5], [0.0, 1.0]])
