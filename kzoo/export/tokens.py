"""The signature of a backbone of text: `serving_default` over token numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.errors import ExportError
from kzoo.export.preprocess import require
from kzoo.export.signature import as_float32
from kzoo.modality import Served, Signature


def serve_tokens(backbone: keras.Model, vocabulary: Sequence[str], further: Mapping[str, Signature]) -> Served:
    """What the export of a backbone of text returns; see `kzoo.export.saved_model.export_backbone`.

    Raises ExportError without a vocabulary, and for a name in `further` that is taken.
    """
    length = backbone.input_shape[1]
    if not vocabulary:
        raise ExportError(f"backbone {backbone.name!r}: an export of text needs the vocabulary of its tokens")
    if "serving_default" in further:
        raise ExportError("signature 'serving_default' is the backbone's own; give yours another name")

    def embed(tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": backbone(tokens, training=False)["embedding"]}

    answers: dict[str, Signature] = {"serving_default": embed, **further}
    return Served(
        functions={name: _on_tokens(name, answer, length, len(vocabulary)) for name, answer in answers.items()},
        samples=np.random.default_rng(0).integers(0, len(vocabulary), (3, length), np.int32),
        takes=lambda tokens: tokens,
        facts={"length": length, "type": "int32", "preprocessing": "none", "vocabulary": list(vocabulary)},
    )


def _on_tokens(name: str, answer: Signature, length: int, vocabulary: int) -> Any:
    """Trace `answer` over int32 `tokens` [None,T]."""

    @tf.function(input_signature=[tf.TensorSpec([None, length], tf.int32, name="tokens")], autograph=False)
    def serve(tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = tf.ensure_shape(tokens, [None, length])
        tokens = require(tf.shape(tokens)[0] > 0, tokens, "tokens: an empty batch")
        known = tf.reduce_all((tokens >= 0) & (tokens < vocabulary))
        tokens = require(known, tokens, f"tokens: numbers must lie in 0 to {vocabulary - 1}")
        tokens = tf.where(known, tokens, 0)  # TensorFlow's optimizer may drop the order of check and use, not a value
        return as_float32(name, answer(tokens))

    return serve.get_concrete_function()
