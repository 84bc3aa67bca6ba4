"""What the methods share: which tokens are words, figures of predicted tokens, the tied table, texts with marks."""

import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from kzoo import replicas
from kzoo.data import Source, evaluation_batches
from kzoo.errors import OptionsError
from kzoo.losses import full_precision
from kzoo.method import Logs
from kzoo.text import CLS, PAD, SEP, joined, wrapped

_BATCH = 1024  # passages counted at once


def are_words(tokens: tf.Tensor) -> tf.Tensor:
    """Which tokens `[B, T]` are part of the text, [UNK] too: not [PAD], [CLS] or [SEP]. Bool `[B, T]`."""
    return (tokens != PAD) & (tokens != CLS) & (tokens != SEP)


def chosen_first(which: tf.Tensor) -> tf.Tensor:
    """Positions, int32 `[B, T]`, those that bool `which` `[B, T]` chooses first, both parts in their order."""
    return tf.argsort(tf.cast(~which, tf.int32), axis=1, stable=True)


def tied_table(backbone: keras.Model, method: str) -> keras.Variable:
    """The embeddings `[V, D]` of the backbone's words. Raises OptionsError where it has no layer "token_embedding"."""
    for layer in backbone.layers:
        if layer.name == "token_embedding":
            return layer.embeddings
    raise OptionsError([f"{method}: {backbone.name} has no layer token_embedding to tie to; use bert_tiny or the like"])


def token_figures(logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> Logs:
    """Cross-entropy, accuracy and perplexity of predicted tokens, the mean over those of all replicas.

    A passage with more tokens that count weighs more, so each replica's share of the sum is divided by the number of
    tokens of the global batch: the replicas' losses average to that of one. No token that counts: all are 0.

    Args:
        logits: `[B, P, V]`. targets: int `[B, P]`. weights: `[B, P]`, 1 for what counts, 0 for the rest.

    Returns:
        "loss", whose mean over the replicas is the cross-entropy; "accuracy" and "perplexity", equal on all.
    """
    logits = full_precision(logits)
    weights = tf.cast(weights, logits.dtype)
    loss = tf.reduce_sum(weights * tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits))
    hits = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), tf.cast(targets, tf.int32))
    sums = [tf.stop_gradient(loss), tf.reduce_sum(weights * tf.cast(hits, logits.dtype)), tf.reduce_sum(weights)]
    all_loss, all_hits, count = replicas.total(sums)
    count += 1e-5  # as in the authors' code of BERT
    return {
        "loss": loss * replicas.count() / count,
        "accuracy": all_hits / count,
        "perplexity": tf.exp(all_loss / count),
    }


def uniform_guess(words: int) -> dict[str, float]:
    """What these figures are where all of so many tokens are equally likely."""
    return {"loss": math.log(words), "accuracy": 1 / words, "perplexity": float(words)}


def unigram_figures(train: Source, test: Source) -> dict[str, float]:
    """What can be had without reading: the same answer everywhere, from how often each token stands in training.

    "unigram_accuracy" of the most frequent, "unigram_loss" and "unigram_perplexity" of the frequencies (each count one
    more, so that none is 0), on the words of `test`.
    """
    known, asked = _counts(train), _counts(test)
    chances = (known + 1) / (known + 1).sum()
    loss = float(-(asked * np.log(chances)).sum() / asked.sum())
    return {
        "unigram_accuracy": float(asked[known.argmax()] / asked.sum()),
        "unigram_loss": loss,
        "unigram_perplexity": math.exp(loss),
    }


def _counts(source: Source) -> np.ndarray:
    counts = np.zeros(len(source.vocabulary), np.int64)
    for batch in evaluation_batches(source, _BATCH):
        tokens = batch["tokens"].numpy()
        counts += np.bincount(tokens[np.asarray(are_words(tokens))], minlength=len(counts))
    return counts


def caption(tokens: Sequence[int], vocabulary: Sequence[str], marks: Mapping[int, str] | None = None) -> str:
    """A row of tokens as text in lines that fit a picture, without padding.

    marks: the pieces at these positions stand in «», followed by this sign.
    """
    pieces = []
    for position, number in enumerate(tokens):
        piece = vocabulary[number]
        if marks and position in marks:
            begins = "##" * piece.startswith("##")
            piece = f"{begins}«{piece.removeprefix('##')}{marks[position]}»"
        if number != PAD:
            pieces.append(piece)
    return wrapped(joined(pieces))
