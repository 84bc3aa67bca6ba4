"""T5's pretraining (Raffel et al., "Exploring the limits of transfer learning", JMLR 2020, section 3.1.4)."""

import numpy as np
import tensorflow as tf

from kzoo.data import Source
from kzoo.errors import DataError, OptionsError
from kzoo.layers import Dropout, LayerNormalization
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in, uniform
from kzoo.text import CLS, PAD, SEP, SPECIAL
from kzoo_text.options import SENTINELS, SpanCorruptionOptions
from kzoo_text.tokens import (
    are_words,
    caption,
    chosen_first,
    tied_table,
    token_figures,
    uniform_guess,
    unigram_figures,
)
from kzoo_text.transformer import EPSILON, HEAD, Block, small_start

_FIRST = len(SPECIAL)  # the number of the first sentinel


class SpanCorruption(Method):
    """Spans of a passage are taken out; a decoder writes them, reading what is left.

    Tokens `[B, T]`, 15 % of the words in spans of 3 on average, each span replaced by one sentinel, <extra_id_0>,
    <extra_id_1>, ... -> backbone, tokens `[B, T, D]` -> decoder: a sentinel, what it stands for, the next ...,
    [SEP], each from those before it `[B, L]`, which begin with [CLS], and from the backbone's tokens -> times the
    transposed table of the input's embeddings, plus a bias -> `[B, L, V]` -> cross-entropy, the mean over all tokens
    to be written in the global batch. Uniform logits give log V. The decoder is dropped downstream.

    Sentinels are easily told, so "word_accuracy" and "word_perplexity" are of the words alone. The sentinels are the
    numbers after the special tokens, and vocabularies here have them there.

    Deviations: the encoder is any of this family, with learned positions and normalised after each part, and so is the
    decoder; [CLS] and [SEP] frame each passage, and never are taken out; a passage of one word stays whole.
    """

    options: SpanCorruptionOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: SpanCorruptionOptions) -> Batch:
        tokens = batch["tokens"]
        length = tokens.shape[1]
        words = are_words(tokens)
        starts, ends = random_spans(tf.reduce_sum(tf.cast(words, tf.int32), axis=1), seed, length, options)
        rank = (tf.cumsum(tf.cast(words, tf.int32), axis=1) - 1)[..., None]  # of a word among the words
        out = words & tf.reduce_any((starts[:, None] <= rank) & (rank < ends[:, None]), axis=2)
        begins = out & tf.reduce_any(starts[:, None] == rank, axis=2)
        sentinel = _FIRST + tf.reduce_sum(tf.cast(ends[:, None] <= rank, tf.int32), axis=2)  # spans that ended before

        left = _pressed(tf.where(begins, sentinel, tokens), (tokens != PAD) & (~out | begins))
        # before the first word of a span its sentinel, then its words
        stays = tf.reshape(tf.stack([begins, out], axis=2), [-1, 2 * length])
        target = _pressed(tf.reshape(tf.stack([sentinel, tokens], axis=2), [-1, 2 * length]), stays)
        are_out = _pressed(
            tf.reshape(tf.stack([tf.zeros_like(tokens), tf.ones_like(tokens)], axis=2), stays.shape), stays
        )
        room = sum(most_noise(length, options)) + 1
        place, written = tf.range(room)[None], tf.reduce_sum(tf.cast(stays, tf.int32), axis=1, keepdims=True)
        return {
            "corrupted_tokens": left,
            "target_tokens": tf.where(place == written, SEP, target[:, :room]),
            "weights": tf.cast((place <= written) & (written > 0), tf.float32),
            "words": tf.cast(are_out[:, :room], tf.float32),
        }

    def build_heads(self) -> None:
        length = self.backbone.input_shape[1]
        tokens_out, spans_out = most_noise(length, self.options)
        if spans_out > len(SENTINELS):
            raise OptionsError(
                [
                    f"{self.name}: passages of {length} tokens lose up to {spans_out} spans, and there are "
                    f"{len(SENTINELS)} sentinels; raise method.options.span or lower method.options.share"
                ]
            )
        found = self.data.vocabulary[_FIRST : _FIRST + spans_out]
        if found and found != SENTINELS[:spans_out]:
            raise DataError(
                f"{self.name}: the vocabulary lacks {SENTINELS[0]} to {SENTINELS[spans_out - 1]} after {SPECIAL[-1]}, "
                "which stand for what is taken out; use python_docs or text:<path>"
            )
        words, width = self.table.shape
        rate = self.options.dropout
        self.positions = self.add_weight(
            name="positions", shape=(tokens_out + spans_out + 1, width), initializer=small_start()
        )
        self.norm = LayerNormalization(epsilon=EPSILON, name="decoder_norm")
        self.drop = Dropout(rate, name="decoder_dropout")
        self.blocks = [
            Block(width // HEAD, rate, cross=True, name=f"decoder_{index}")
            for index in range(1, self.options.layers + 1)
        ]
        for layer in (self.norm, *self.blocks):
            layer.build((None, None, width))
        self.bias = self.add_weight(name="bias", shape=(words,), initializer="zeros")

    @property
    def table(self) -> tf.Variable:
        """The embeddings of the words `[V, D]`, which read and write."""
        return tied_table(self.backbone, self.name)

    def forward(self, batch: Batch, training: bool) -> Batch:
        tokens = self.backbone(batch["corrupted_tokens"], training=training)["tokens"]
        target = batch["target_tokens"]
        before = tf.concat([tf.fill([tf.shape(target)[0], 1], CLS), target[:, :-1]], axis=1)
        return {"words": self.decode(before, tokens, batch["corrupted_tokens"], training)}

    def decode(self, before: tf.Tensor, tokens: tf.Tensor, corrupted: tf.Tensor, training: bool) -> tf.Tensor:
        """Logits `[B, L, V]` of each token to be written, from those `before` it and the backbone's tokens."""
        table = tf.convert_to_tensor(self.table)
        x = tf.gather(table, before) + tf.convert_to_tensor(self.positions)
        x = self.drop(self.norm(x), training=training)
        length = before.shape[1]
        earlier = tf.range(length)[None, :, None] >= tf.range(length)[None, None]
        for block in self.blocks:
            x = block(x, earlier, tokens, corrupted[:, None] != PAD, training=training)
        return tf.matmul(x, tf.cast(table, x.dtype), transpose_b=True) + tf.cast(
            tf.convert_to_tensor(self.bias), x.dtype
        )

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        logs = token_figures(outputs["words"], batch["target_tokens"], batch["weights"])
        words = token_figures(outputs["words"], batch["target_tokens"], batch["words"])
        return {**logs, **{f"word_{name}": tf.stop_gradient(words[name]) for name in ("accuracy", "perplexity")}}

    def chance(self) -> dict[str, float]:
        guess = uniform_guess(self.table.shape[0])
        return {**guess, **{f"word_{name}": guess[name] for name in ("accuracy", "perplexity")}}

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """What can be had from the frequencies of words alone, on the held-out passages; beside "word_accuracy"."""
        return unigram_figures(train, test or train)

    def write(self, corrupted: tf.Tensor) -> np.ndarray:
        """What the decoder writes of its own, int32 `[B, L]`: each token the most likely, until [SEP], then [PAD]."""
        tokens = self.backbone(corrupted, training=False)["tokens"]
        length = self.positions.shape[0]
        before = np.full((len(corrupted), length + 1), PAD, np.int32)
        before[:, 0] = CLS
        for place in range(length):
            logits = self.decode(tf.constant(before[:, :-1]), tokens, corrupted, training=False)[:, place]
            ended = np.isin(before[:, place], (SEP, PAD))
            before[:, place + 1] = np.where(ended, PAD, np.argmax(logits, axis=-1))
        return before[:, 1:]

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """The passages as they are shown, what the decoder writes, and what was taken out."""
        if not self.data.vocabulary:
            return {}
        written = self.write(batch["corrupted_tokens"])
        columns = {"shown": batch["corrupted_tokens"].numpy(), "written": written}
        columns["taken out"] = batch["target_tokens"].numpy()
        return {title: [caption(row, self.data.vocabulary) for row in rows] for title, rows in columns.items()}


def noise(count: int, options: SpanCorruptionOptions) -> tuple[int, int]:
    """How many words, and in how many spans, a text of `count` words loses."""
    if count < 2:
        return 0, 0
    words = min(max(round(options.share * count), 1), count - 1)
    return words, min(max(round(words / options.span), 1), count - words)


def most_noise(length: int, options: SpanCorruptionOptions) -> tuple[int, int]:
    """The most words, and the most spans, that a passage of so many tokens can lose."""
    words, spans = zip(*(noise(count, options) for count in range(length + 1)), strict=True)
    return max(words), max(spans)


def random_spans(
    count: tf.Tensor, seed: tf.Tensor, length: int, options: SpanCorruptionOptions
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the spans begin and end that texts of `count` words `[B]` lose, int32 `[B, S]`; those unused are empty.

    The authors' random_spans_noise_mask: the numbers of words and of spans follow from `count`; the lengths of the
    spans, and of what stays before each, are random, all ways to cut them being equally likely.
    """
    spans = most_noise(length, options)[1]
    table = tf.constant([noise(each, options) for each in range(length + 1)])
    out, parts = tf.unstack(tf.gather(table, count), axis=1)
    lost = _random_lengths(out, parts, fold_in(seed, "lost"), length, spans)
    kept = _random_lengths(count - out, parts, fold_in(seed, "kept"), length, spans)
    ends = tf.cumsum(lost + kept, axis=1)
    return ends - lost, ends


def _random_lengths(items: tf.Tensor, parts: tf.Tensor, seed: tf.Tensor, most_items: int, most: int) -> tf.Tensor:
    """Cut rows of `items` `[B]` in `parts` `[B]` of at least one each; their lengths, int32 `[B, most]`."""
    place = tf.range(most_items)[None]
    may_begin = (place > 0) & (place < items[:, None])
    order = tf.argsort(tf.where(may_begin, uniform(seed, (most_items,)), 2.0), axis=1, stable=True)
    begins = tf.argsort(order, axis=1) < parts[:, None] - 1
    part = tf.cumsum(tf.cast(begins, tf.int32), axis=1)
    part = tf.where((place < items[:, None]) & (parts[:, None] > 0), part, -1)
    return tf.reduce_sum(tf.one_hot(part, most, dtype=tf.int32), axis=1)


def _pressed(tokens: tf.Tensor, stay: tf.Tensor) -> tf.Tensor:
    """The tokens `[B, N]` that stay, from the beginning of the row on, then padding."""
    order = chosen_first(stay)
    return tf.where(tf.gather(stay, order, batch_dims=1), tf.gather(tokens, order, batch_dims=1), PAD)
