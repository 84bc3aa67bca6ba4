"""What the class token of a vision transformer looks at (Caron et al. 2021, figures 1 and 3)."""

import keras
import numpy as np
import tensorflow as tf

from kzoo import patches
from kzoo.errors import OptionsError
from kzoo.layers import TransformerBlock


def class_attention(encoder: keras.Model, images: tf.Tensor) -> np.ndarray | None:
    """How much the class token attends to each patch in the last block, the mean over heads, `[B, h, w]`.

    None where the encoder has no class token, or is not made of kzoo's transformer blocks.
    """
    blocks = [layer for layer in encoder.layers if isinstance(layer, TransformerBlock)]
    try:
        rows, columns = patches.patches_of(encoder).grid(images)
    except OptionsError:
        return None
    if not blocks:
        return None
    block = blocks[-1]
    x = block.attention_norm(keras.Model(encoder.input, block.input)(images))
    if x.shape[1] != 1 + rows * columns:
        return None
    heads, width = block.attention.heads, x.shape[-1]
    query, key, _ = tf.split(block.attention.query_key_value(x), 3, axis=-1)
    query, key = (tf.reshape(each, [len(images), -1, heads, width // heads]) for each in (query[:, :1], key))
    logits = tf.cast(tf.einsum("bqhd,bthd->bht", query, key), tf.float32) / (width // heads) ** 0.5
    shares = tf.reduce_mean(tf.nn.softmax(logits), axis=1)[:, 1:]
    return np.asarray(tf.reshape(shares, [-1, rows, columns]))


def picture(attention: np.ndarray, size: int) -> np.ndarray:
    """As images `[B, size, size, 1]`: white is the patch that each looks at most."""
    scaled = attention / np.maximum(attention.max(axis=(1, 2), keepdims=True), 1e-12)
    times = size // attention.shape[1]
    return np.repeat(np.repeat(scaled, times, axis=1), times, axis=2)[..., None].astype("float32")
