"""The masked language model against its paper."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_text.masked_language_model import MaskedLanguageModel, sentence_pairs
from kzoo_text.options import MaskedLanguageModelOptions
from kzoo_text.tokens import token_figures, unigram_figures

import kzoo
from kzoo.data import text_source
from kzoo.errors import DataError, OptionsError
from kzoo.testing.tiny import tiny_text_backbone
from kzoo.text import CLS, MASK, SEP, SPECIAL


def pretext(raw, keys, **options):
    ready = MaskedLanguageModel.pretext(raw, keys, MaskedLanguageModelOptions(**options))
    return {name: value.numpy() for name, value in ready.items()}


def asked_for(ready):
    """Rows and positions of the tokens that are asked for."""
    rows, columns = np.nonzero(ready["weights"])
    return rows, ready["positions"][rows, columns], ready["targets"][rows, columns]


# ---- the pretext -----------------------------------------------------------------------------------------------------


def test_15_percent_are_asked_for_of_which_80_masked_10_random_10_kept(passages, keys):
    raw = passages(1800, 120)
    ready = pretext(raw, keys(raw))
    tokens = raw["tokens"].numpy()
    rows, positions, targets = asked_for(ready)
    assert (tokens != 0).sum() > 1e5
    assert len(rows) / (tokens != 0).sum() == pytest.approx(0.15, abs=0.003)
    shown = ready["masked_tokens"][rows, positions]
    masked, kept = shown == MASK, shown == targets
    changed = ~masked & ~kept
    # of the random words, one of 195 is the word itself
    assert masked.mean() == pytest.approx(0.8, abs=0.01)
    assert changed.mean() == pytest.approx(0.1 * 194 / 195, abs=0.01)
    assert kept.mean() == pytest.approx(0.1 + 0.1 / 195, abs=0.01)
    drawn = shown[changed]
    assert drawn.min() == len(SPECIAL)
    assert drawn.max() == 199
    np.testing.assert_array_equal(targets, tokens[rows, positions])
    assert not np.isin(targets, [0, CLS, SEP]).any()
    untouched = np.ones_like(tokens, bool)
    untouched[rows, positions] = False
    np.testing.assert_array_equal(ready["masked_tokens"][untouched], tokens[untouched])


def test_random_words_are_words_of_the_text(passages, keys):
    """Not what stands before the first word of the vocabulary: special tokens, T5's sentinels."""
    raw = passages(600, 120)
    raw["first_word"] = tf.fill([600], 105)
    ready = pretext(raw, keys(raw))
    rows, positions, targets = asked_for(ready)
    shown = ready["masked_tokens"][rows, positions]
    drawn = shown[(shown != MASK) & (shown != targets)]
    np.testing.assert_array_equal(np.unique(drawn), np.arange(105, 200))


def test_each_passage_is_asked_for_15_percent_of_its_own_length(passages, keys):
    raw = passages(200, 64)
    ready = pretext(raw, keys(raw))
    length = (raw["tokens"].numpy() != 0).sum(axis=1)
    np.testing.assert_array_equal(ready["weights"].sum(axis=1), np.maximum(1, np.round(0.15 * length)))
    assert ready["positions"].shape == (200, 10)
    few = pretext(raw, keys(raw), max_predictions=3)
    np.testing.assert_array_equal(few["weights"].sum(axis=1), np.minimum(3, np.maximum(1, np.round(0.15 * length))))
    for positions in ready["positions"]:
        assert len(set(positions)) == 10


def test_a_passage_without_words_is_asked_for_nothing(keys):
    raw = {"tokens": tf.constant([[CLS, SEP, 0, 0], [CLS, 50, SEP, 0]]), "vocabulary_size": tf.constant([200, 200])}
    ready = pretext({**raw, "id": tf.range(2)}, tf.constant([1, 2], tf.int64), share=0.9)
    np.testing.assert_array_equal(ready["weights"].sum(axis=1), [0, 1])
    np.testing.assert_array_equal(ready["masked_tokens"][0], [CLS, SEP, 0, 0])
    logs = token_figures(tf.zeros((1, 4, 200)), ready["targets"][:1], ready["weights"][:1])
    assert float(logs["loss"]) == 0.0


def test_other_words_are_asked_for_each_time(passages, keys):
    raw = passages(50, 64, full=True)
    one, other = pretext(raw, keys(raw)), pretext(raw, keys(raw, seed=1))
    assert np.mean([set(a) == set(b) for a, b in zip(one["positions"], other["positions"], strict=True)]) < 0.1
    counts = np.bincount(np.concatenate([pretext(raw, keys(raw, seed))["positions"].ravel() for seed in range(40)]))
    assert np.abs(counts[1:63] / counts.sum() * 62 - 1).max() < 0.35  # every word alike: 323 times, +- 6 deviations


# ---- next sentences --------------------------------------------------------------------------------------------------


def test_pairs_are_packed_from_the_end_of_one_and_the_beginning_of_the_other():
    row = lambda *numbers: tf.constant([[CLS, *numbers, SEP] + [0] * (9 - len(numbers))])  # noqa: E731
    raw = {"tokens": row(50, 51, 52, 53, 54, 55), "next": row(60, 61, 62, 63, 64), "other": row(70, 71)}
    seen = {}
    for key in range(40):
        packed, follows = sentence_pairs(raw, tf.constant([key], tf.int64))
        seen.setdefault(int(follows[0]), packed.numpy()[0].tolist())
    assert seen == {
        1: [CLS, 52, 53, 54, 55, SEP, 60, 61, 62, 63, SEP][:11],
        0: [CLS, 52, 53, 54, 55, SEP, 70, 71, SEP, 0, 0],
    }


def test_half_of_the_pairs_follow_and_none_where_nothing_does(passages):
    raw = passages(4000, 12)
    raw["next"] = tf.where(tf.range(4000)[:, None] < 2000, raw["next"], 0)
    _, follows = sentence_pairs(raw, tf.range(4000, dtype=tf.int64))
    assert np.mean(follows[:2000]) == pytest.approx(0.5, abs=0.04)
    assert not np.any(follows[2000:])


def test_pairs_need_neighbours(passages, keys):
    raw = {name: value for name, value in passages(2, 12).items() if name not in ("next", "other")}
    with pytest.raises(DataError, match="next_sentence needs passages with 'next' and 'other', as "):
        pretext(raw, keys(raw), next_sentence=True)


# ---- the loss --------------------------------------------------------------------------------------------------------


def test_it_starts_at_chance(build, passages, keys):
    method = build("masked_language_model", next_sentence=True)
    raw = passages(64, 16)
    batch = method.transform(raw, keys(raw))
    logs = method.loss(method.forward(batch, training=False), batch)
    assert method.chance() == pytest.approx(
        {
            "loss": math.log(200) + math.log(2),
            "accuracy": 1 / 200,
            "perplexity": 200,
            "next_sentence_loss": 0.6931,
            "next_sentence_accuracy": 0.5,
        },
        abs=1e-4,
    )
    assert float(logs["next_sentence_loss"]) == pytest.approx(math.log(2), abs=0.05)
    words = float(logs["loss"] - logs["next_sentence_loss"])
    assert words == pytest.approx(math.log(200), abs=0.3)
    assert float(logs["perplexity"]) == pytest.approx(math.exp(words), rel=1e-3)
    plain = build("masked_language_model")
    assert plain.chance() == pytest.approx({"loss": math.log(200), "accuracy": 1 / 200, "perplexity": 200})


def test_figures_are_of_what_counts_alone():
    logits = tf.math.log([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], [[0.2, 0.2, 0.6], [0.3, 0.3, 0.4]]])
    targets, weights = tf.constant([[0, 0], [2, 1]]), tf.constant([[1.0, 0.0], [1.0, 1.0]])
    logs = token_figures(logits, targets, weights)
    loss = -(math.log(0.5) + math.log(0.6) + math.log(0.3)) / 3
    assert float(logs["loss"]) == pytest.approx(loss, rel=1e-4)
    assert float(logs["accuracy"]) == pytest.approx(2 / 3, rel=1e-4)
    assert float(logs["perplexity"]) == pytest.approx(math.exp(loss), rel=1e-4)
    for other in (1, 2):
        again = token_figures(logits, tf.constant([[0, other], [2, 1]]), weights)
        assert {name: float(value) for name, value in again.items()} == {name: float(v) for name, v in logs.items()}
    for name, value in token_figures(tf.zeros((4, 3, 50)), tf.zeros((4, 3), tf.int32), tf.ones((4, 3))).items():
        assert float(value) == pytest.approx(
            {"loss": math.log(50), "accuracy": 1.0, "perplexity": 50.0}[name], rel=1e-4
        )


def test_what_frequencies_are_worth_without_reading():
    words = ["a", "b", "c"]
    train = text_source("t", np.int32([[CLS, 5, 5, 6, SEP], [CLS, 5, SEP, 0, 0]]), (*SPECIAL, *words))
    test = text_source("t", np.int32([[CLS, 5, 6, 7, SEP]]), (*SPECIAL, *words))
    # counts 3, 1, 0 of a, b, c, each one more: 4, 2, 1 of 12, for the five special tokens are possible too
    loss = -(math.log(4 / 12) + math.log(2 / 12) + math.log(1 / 12)) / 3
    expected = {"unigram_accuracy": 1 / 3, "unigram_loss": loss, "unigram_perplexity": math.exp(loss)}
    assert unigram_figures(train, test) == pytest.approx(expected)


# ---- the tied table --------------------------------------------------------------------------------------------------


def test_one_table_reads_and_writes_and_gets_the_gradient_of_both(build, passages, keys):
    method = build("masked_language_model", dropout=0.0)
    table = method.backbone.get_layer("token_embedding").embeddings
    assert method.table is table
    assert [variable.shape for variable in method.trainable_variables].count((200, 128)) == 1
    raw = passages(8, 16)
    batch = method.transform(raw, keys(raw))

    def gradient(read, write):
        """Of the loss by the table, through its use at the input, at the output, or both."""
        with tf.GradientTape() as tape:
            tokens = method.backbone(batch["masked_tokens"], training=False)["tokens"]
            tokens = tokens if read else tf.stop_gradient(tokens)
            words = method.transform_words(tf.gather(tokens, batch["positions"], batch_dims=1))
            used = tf.convert_to_tensor(table) if write else tf.stop_gradient(tf.convert_to_tensor(table))
            logits = tf.matmul(words, used, transpose_b=True) + method.bias
            loss = token_figures(logits, batch["targets"], batch["weights"])["loss"]
        return tf.convert_to_tensor(tape.gradient(loss, table.value)).numpy()

    with tf.GradientTape() as tape:
        loss = method.loss(method.forward(batch, training=False), batch)["loss"]
    whole = tf.convert_to_tensor(tape.gradient(loss, table.value)).numpy()
    np.testing.assert_allclose(whole, gradient(True, False) + gradient(False, True), atol=1e-6)
    assert np.abs(gradient(True, False)).max() > 1e-4
    assert np.abs(gradient(False, True)).max() > 1e-4


def test_a_backbone_without_a_table_is_refused():
    backbone = tiny_text_backbone((16, 32))
    with pytest.raises(OptionsError, match="masked_language_model: tiny has no layer token_embedding to tie to"):
        kzoo.build_method("masked_language_model", backbone=backbone)


# ---- learning --------------------------------------------------------------------------------------------------------


def alternating(count=96):
    """Passages in which two words take turns: what is hidden follows from what stands around it."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(5, 25, (count, 2))
    tokens = np.concatenate([np.full((count, 1), CLS), np.tile(pairs, (1, 5)), np.full((count, 1), SEP)], axis=1)
    return text_source("pairs", tokens.astype("int32"), (*SPECIAL, *(f"w{n}" for n in range(20))))


def test_it_learns_what_can_be_read_off_and_shows_it():
    keras.utils.set_random_seed(0)
    source = alternating()
    backbone = kzoo.build_backbone("bert_tiny", (12, 25), layers=1, dropout=0.0)
    method = kzoo.build_method("masked_language_model", backbone=backbone, data=source)
    method.compile(keras.optimizers.Adam(3e-3))
    history = method.fit(source, batch_size=32, epochs=60, verbose=0).history
    assert history["accuracy"][-1] > 0.8
    assert unigram_figures(source, source)["unigram_accuracy"] < 0.15
    raw = source.decode(tf.range(4, dtype=tf.int64))
    batch = method.transform(raw, tf.range(4, dtype=tf.int64))
    answers = method.visualise(raw, batch)
    assert list(answers) == ["shown", "answered", "the text"]
    for shown, answered, truth, row in zip(*answers.values(), raw["tokens"].numpy(), strict=True):
        assert shown.count("«") == answered.count("✓") + answered.count("✗") == truth.count("«") == 2
        plain = truth.replace("«", "").replace("»", "").split()
        assert plain == [source.vocabulary[number] for number in row]
    assert sum(answered.count("✓") for answered in answers["answered"]) > 4


def test_without_a_vocabulary_there_is_nothing_to_show(build, passages, keys):
    method = build("masked_language_model")
    raw = passages(2, 16)
    assert method.visualise(raw, method.transform(raw, keys(raw))) == {}
