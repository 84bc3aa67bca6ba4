"""BERT (Devlin, Chang, Lee, Toutanova, "BERT: pre-training of deep bidirectional transformers", NAACL 2019)."""

import math

import keras
import numpy as np
import tensorflow as tf

from kzoo import losses
from kzoo.data import Source
from kzoo.errors import DataError
from kzoo.layers import LayerNormalization, gelu
from kzoo.method import Batch, Logs, Method
from kzoo.random import bernoulli, fold_in, integers, uniform
from kzoo.text import CLS, MASK, PAD, SEP, SPECIAL
from kzoo_text.options import MaskedLanguageModelOptions
from kzoo_text.tokens import (
    are_words,
    caption,
    chosen_first,
    tied_table,
    token_figures,
    uniform_guess,
    unigram_figures,
)
from kzoo_text.transformer import EPSILON, dense


class MaskedLanguageModel(Method):
    """Some words of a passage are hidden; the network names them from what stands around them.

    Tokens `[B, T]`, of which 15 % are asked for: 80 % of these are replaced by [MASK], 10 % by a random word, 10 %
    stay -> backbone, tokens `[B, T, D]` -> at the positions asked for `[B, P, D]`: Dense(D), GELU, layer norm, times
    the transposed table of the input's embeddings, plus a bias -> logits `[B, P, V]` -> cross-entropy, the mean over
    all tokens asked for in the global batch. Uniform logits give log V.

    With `next_sentence` a passage is the end of one and the beginning of another, [CLS] A [SEP] B [SEP]: in half of the
    cases B follows A, else it is from another document. Dense(D), tanh and Dense(2) on [CLS] tell which; its
    cross-entropy, log 2 at chance, is added.

    Deviations: words are chosen anew each time a passage is seen, where the authors' files hold ten fixed choices of
    each; a random word is no special token and none of T5's sentinels; all passages have the full length, where 10 % of
    the authors' are shorter; for `next_sentence` A and B have half of the length each, and the passage that does not
    follow is drawn once for each A, by the dataset.
    """

    options: MaskedLanguageModelOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: MaskedLanguageModelOptions) -> Batch:
        pair: Batch = {}
        tokens = batch["tokens"]
        if options.next_sentence:
            tokens, pair["follows"] = sentence_pairs(batch, fold_in(seed, "next_sentence"))
        length = tokens.shape[1]
        words = are_words(tokens)
        filled = tf.reduce_sum(tf.cast(tokens != PAD, tf.float32), axis=1)
        asked = tf.clip_by_value(tf.cast(tf.round(options.share * filled), tf.int32), 1, options.max_predictions)
        asked = tf.minimum(asked, tf.reduce_sum(tf.cast(words, tf.int32), axis=1))[:, None]

        order = tf.argsort(tf.where(words, uniform(fold_in(seed, "choose"), (length,)), 2.0), axis=1, stable=True)
        chosen = tf.argsort(order, axis=1) < asked
        fate = uniform(fold_in(seed, "fate"), (length,))
        vocabulary = batch["vocabulary_size"][:, None]
        first_word = batch["first_word"][:, None] if "first_word" in batch else len(SPECIAL)
        random_words = integers(fold_in(seed, "word"), (length,), first_word, vocabulary)
        replaced = tf.where(fate < 0.8, MASK, tf.where(fate < 0.9, random_words, tokens))
        most = min(options.max_predictions, max(1, round(options.share * length)))
        positions = order[:, :most]
        return {
            "masked_tokens": tf.where(chosen, replaced, tokens),
            "positions": positions,
            "targets": tf.gather(tokens, positions, batch_dims=1),
            "weights": tf.cast(tf.range(most)[None] < asked, tf.float32),
            **pair,
        }

    def build_heads(self) -> None:
        words, width = self.table.shape
        self.transform_words = keras.Sequential(
            [dense(width, "dense", activation=gelu), LayerNormalization(epsilon=EPSILON, name="norm")], name="words"
        )
        self.transform_words.build((None, None, width))
        self.bias = self.add_weight(name="bias", shape=(words,), initializer="zeros")
        if self.options.next_sentence:
            self.pair_classifier = keras.Sequential(
                [dense(width, "dense", activation="tanh"), dense(2, "follows")], name="next_sentence"
            )
            self.pair_classifier.build((None, width))

    @property
    def table(self) -> keras.Variable:
        """The embeddings of the words `[V, D]`, which read and write."""
        return tied_table(self.backbone, self.name)

    def blank_examples(self) -> dict[str, np.ndarray]:
        blank = super().blank_examples()
        return {**blank, "next": blank["tokens"], "other": blank["tokens"]} if self.options.next_sentence else blank

    def forward(self, batch: Batch, training: bool) -> Batch:
        tokens = self.backbone(batch["masked_tokens"], training=training)["tokens"]
        words = self.transform_words(tf.gather(tokens, batch["positions"], batch_dims=1), training=training)
        table = tf.cast(tf.convert_to_tensor(self.table), words.dtype)
        logits = tf.matmul(words, table, transpose_b=True) + tf.cast(tf.convert_to_tensor(self.bias), words.dtype)
        return {"words": logits, **({"follows": self.pair_classifier(tokens[:, 0])} if "follows" in batch else {})}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        logs = token_figures(outputs["words"], batch["targets"], batch["weights"])
        if "follows" not in batch:
            return logs
        next_sentence = losses.cross_entropy(outputs["follows"], batch["follows"])
        logs["next_sentence_accuracy"] = losses.accuracy(outputs["follows"], batch["follows"])
        return {**logs, "loss": logs["loss"] + next_sentence, "next_sentence_loss": next_sentence}

    def chance(self) -> dict[str, float]:
        """All words equally likely; `extra_metrics` says what their frequencies are worth."""
        guess = uniform_guess(self.table.shape[0])
        if not self.options.next_sentence:
            return guess
        pair = {"next_sentence_loss": math.log(2), "next_sentence_accuracy": 1 / 2}
        return {**guess, **pair, "loss": guess["loss"] + math.log(2)}

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """What can be had from the frequencies of words alone, on the held-out passages."""
        return unigram_figures(train, test or train)

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """The passages as they are shown, with the answers in place, and as they were."""
        if not self.data.vocabulary:
            return {}
        said = np.argmax(self.forward(batch, training=False)["words"], axis=-1)
        rows = (batch[name].numpy() for name in ("masked_tokens", "positions", "targets", "weights"))
        columns: dict[str, list[str]] = {"shown": [], "answered": [], "the text": []}
        for tokens, positions, targets, weights, words in zip(*rows, said, strict=True):
            asked = weights > 0
            places, truth, answer = positions[asked], targets[asked], words[asked]
            verdict = np.where(answer == truth, "✓", "✗")
            for title, filled, signs in (
                ("shown", tokens[places], np.full(len(places), "")),
                ("answered", answer, verdict),
                ("the text", truth, np.full(len(places), "")),
            ):
                row = tokens.copy()
                row[places] = filled
                columns[title].append(caption(row, self.data.vocabulary, dict(zip(places, signs, strict=True))))
        return columns


def sentence_pairs(batch: Batch, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """[CLS] A [SEP] B [SEP] `[B, T]`, A the end of each passage, B the beginning of its next or of another document's;
    and int32 `[B]`, 1 where B follows.

    Raises: DataError where the passages come without their neighbours.
    """
    if not {"next", "other"} <= set(batch):
        raise DataError(
            "masked_language_model: next_sentence needs passages with 'next' and 'other', as python_docs has them"
        )
    follows = bernoulli(seed, 0.5) & tf.reduce_any(are_words(batch["next"]), axis=1)
    second = tf.where(follows[:, None], batch["next"], batch["other"])
    (a, count_a), (b, count_b) = (_words_first(tokens) for tokens in (batch["tokens"], second))
    length = batch["tokens"].shape[1]
    room_b = (length - 3) // 2
    in_a, in_b = tf.minimum(count_a, length - 3 - room_b), tf.minimum(count_b, room_b)
    place = tf.range(length)[None]
    last = length - 1
    from_a = tf.gather(a, tf.clip_by_value(count_a - in_a + place - 1, 0, last), batch_dims=1)
    from_b = tf.gather(b, tf.clip_by_value(place - in_a - 2, 0, last), batch_dims=1)
    end_b = in_a + 2 + in_b
    packed = tf.where(place <= in_a, from_a, tf.where(place < end_b, from_b, PAD))
    packed = tf.where((place == in_a + 1) | (place == end_b), SEP, packed)
    return tf.where(place == 0, CLS, packed), tf.cast(follows, tf.int32)


def _words_first(tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The words of each row from its beginning on, `[B, T]`, and their number, `[B, 1]`."""
    words = are_words(tokens)
    count = tf.reduce_sum(tf.cast(words, tf.int32), axis=1, keepdims=True)
    return tf.gather(tokens, chosen_first(words), batch_dims=1), count
