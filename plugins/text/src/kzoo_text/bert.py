"""BERT's encoder (Devlin, Chang, Lee, Toutanova, NAACL 2019) in the small sizes of Turc et al. 2019.

Input: int32 tokens `[B, T]`, padded with 0, which is never attended to. Outputs: "tokens" `[B, T, D]`, those of the
last layer, and "embedding" `[B, D]`, their mean over what is not padding (or the first, [CLS], by `pooling`).
The segment of a token follows from the [SEP] before it. A method that ties its output to the input takes the layer
"token_embedding", whose table is `[V, D]`.

Deviation: dropout belongs to the example (`kzoo.layers.Dropout`); there is no pooler: that is a head of a method.
"""

from typing import Any

import keras

from kzoo.layers import Dropout, LayerNormalization
from kzoo_text.options import BertOptions
from kzoo_text.transformer import EPSILON, HEAD, Block, MeanOfVisible, Places, Visible, small_start


def bert_tiny(input_shape: tuple[int, int], options: BertOptions) -> keras.Model:
    """2 layers, 128 wide, 2 heads."""
    return _bert("bert_tiny", input_shape, options, 2, 128)


def bert_mini(input_shape: tuple[int, int], options: BertOptions) -> keras.Model:
    """4 layers, 256 wide, 4 heads."""
    return _bert("bert_mini", input_shape, options, 4, 256)


def bert_small(input_shape: tuple[int, int], options: BertOptions) -> keras.Model:
    """4 layers, 512 wide, 8 heads."""
    return _bert("bert_small", input_shape, options, 4, 512)


def _bert(name: str, input_shape: tuple[int, int], options: BertOptions, layers: int, width: int) -> keras.Model:
    length, words = input_shape
    inputs = keras.Input((length,), dtype="int32", name="tokens")
    table = keras.layers.Embedding(words, width, embeddings_initializer=small_start(), name="token_embedding")
    visible = Visible(name="visible")(inputs)
    x: Any = Places(name="places")(table(inputs), inputs)
    x = LayerNormalization(epsilon=EPSILON, name="norm")(x)
    x = Dropout(options.dropout, name="dropout")(x)
    for index in range(1, (options.layers or layers) + 1):
        x = Block(width // HEAD, options.dropout, name=f"block_{index}")(x, visible)
    embedding = x[:, 0] if options.pooling == "cls" else MeanOfVisible(name="mean")(x, visible)
    return keras.Model(inputs, {"embedding": embedding, "tokens": x}, name=name)
