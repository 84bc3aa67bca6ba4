"""Span corruption against its paper."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_text.options import SENTINELS, SpanCorruptionOptions
from kzoo_text.span_corruption import SpanCorruption, noise, random_spans

import kzoo
from kzoo.data import text_source
from kzoo.errors import DataError, OptionsError
from kzoo.text import CLS, SEP, SPECIAL

FIRST, WORDS = len(SPECIAL), len(SPECIAL) + len(SENTINELS)


def pretext(raw, keys, **options):
    ready = SpanCorruption.pretext(raw, keys, SpanCorruptionOptions(**options))
    return {name: value.numpy() for name, value in ready.items()}


def written(row):
    return [int(number) for number in row if number]


def is_sentinel(number):
    return FIRST <= number < WORDS


# ---- the pretext -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "options", "expected"),
    [
        (512, {}, (77, 26)),  # the paper's: 15 % of 512 are 76.8; 77 / 3 = 25.67
        (62, {}, (9, 3)),
        (100, {"share": 0.5, "span": 10.0}, (50, 5)),
        (3, {}, (1, 1)),  # at least one
        (10, {"share": 0.9, "span": 1.0}, (9, 1)),  # something stays before each span
        (1, {}, (0, 0)),
    ],
)
def test_numbers_of_words_and_spans(count, options, expected):
    assert noise(count, SpanCorruptionOptions(**options)) == expected


def test_what_is_left_and_what_is_written_make_the_passage_again(passages, keys):
    raw = passages(300, 64)
    ready = pretext(raw, keys(raw))
    assert ready["corrupted_tokens"].shape == (300, 64)
    assert ready["target_tokens"].shape == (300, 10 + 3 + 1)  # room for what 64 words would lose
    for tokens, left, target, weights, words in zip(raw["tokens"].numpy(), *ready.values(), strict=True):
        left, target = written(left), written(target)
        out, spans = noise(len(written(tokens)) - 2, SpanCorruptionOptions())
        assert len(target) == out + spans + 1 == weights.sum()
        assert target[-1] == SEP
        assert [number for number in left if is_sentinel(number)] == list(range(FIRST, FIRST + spans))
        assert [number for number in target if is_sentinel(number)] == list(range(FIRST, FIRST + spans))
        np.testing.assert_array_equal(words[: len(target)], [number >= WORDS for number in target])
        assert words.sum() == out
        filled, span = {}, None
        for number in target[:-1]:
            if is_sentinel(number):
                span = filled.setdefault(number, [])
            else:
                span.append(number)
        restored = [one for number in left for one in filled.get(number, [number])]
        assert restored == written(tokens)
        assert left[0] == CLS
        assert left[1] >= WORDS  # something stays before the first span


def test_spans_are_cut_at_random_all_ways_alike():
    """Of 62 words 9 go in 3 spans: 28 ways to cut the 9; the first word that goes is never the very first."""
    options = SpanCorruptionOptions()
    starts, ends = random_spans(tf.fill([6000], 62), tf.range(6000, dtype=tf.int64), 64, options)
    lengths = (ends - starts).numpy()
    assert starts.shape == (6000, 3)
    np.testing.assert_array_equal(lengths.sum(axis=1), 9)
    np.testing.assert_array_equal(ends[:, -1], 62)  # as the authors cut it, the last span ends the text
    ways, counts = np.unique(lengths, axis=0, return_counts=True)
    assert len(ways) == 28
    assert np.abs(counts / 6000 * 28 - 1).max() < 5 * math.sqrt(28 / 6000)
    gaps = np.diff(np.stack([np.zeros(6000), *np.stack([starts, ends], axis=2).reshape(6000, -1).T]), axis=0)[::2]
    assert gaps.min() == 1
    assert gaps.mean() == pytest.approx(53 / 3, rel=0.02)


def test_other_spans_each_time_and_a_passage_of_one_word_stays(passages, keys):
    raw = passages(50, 64, full=True)
    one, other = pretext(raw, keys(raw)), pretext(raw, keys(raw, seed=1))
    assert np.mean((one["corrupted_tokens"] == other["corrupted_tokens"]).all(axis=1)) < 0.05
    short = {"tokens": tf.constant([[CLS, 50, SEP, 0]]), "id": tf.constant([0], tf.int64)}
    ready = pretext(short, keys(short))
    np.testing.assert_array_equal(ready["corrupted_tokens"], short["tokens"])
    assert not ready["weights"].any()


# ---- the decoder -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def method(build):
    return build("span_corruption", length=32, dropout=0.0, layers=1)


@pytest.fixture(scope="module")
def batch(method, passages, keys):
    raw = passages(8, 32)
    return method.transform(raw, keys(raw))


def test_it_starts_at_chance(method, batch):
    logs = method.loss(method.forward(batch, training=False), batch)
    assert float(logs["loss"]) == pytest.approx(math.log(200), abs=0.3)
    expected = {"loss": math.log(200), "accuracy": 1 / 200, "perplexity": 200}
    words = {"word_accuracy": 1 / 200, "word_perplexity": 200}
    assert method.chance() == pytest.approx({**expected, **words})


def test_each_token_is_written_from_those_before_it_alone(method, batch):
    logits = method.forward(batch, training=False)["words"].numpy()
    target = batch["target_tokens"].numpy()
    for place in (0, 3):
        changed = target.copy()
        changed[:, place] = WORDS + 7
        again = method.forward({**batch, "target_tokens": tf.constant(changed)}, training=False)["words"].numpy()
        np.testing.assert_array_equal(again[:, : place + 1], logits[:, : place + 1])
        assert np.abs(again[:, place + 1 :] - logits[:, place + 1 :]).max() > 1e-4


def test_it_reads_what_is_left_and_not_the_padding(method, batch):
    logits = method.forward(batch, training=False)["words"].numpy()
    table = method.table
    kept = table.numpy()
    left = batch["corrupted_tokens"].numpy()
    left[:, 1] = WORDS + 9
    again = method.forward({**batch, "corrupted_tokens": tf.constant(left)}, training=False)["words"].numpy()
    assert np.abs(again - logits).max(axis=(1, 2)).min() > 1e-5
    table.assign(np.concatenate([kept[:1] + 3.0, kept[1:]]))  # [PAD]
    again = method.forward(batch, training=False)["words"].numpy()
    table.assign(kept)
    counted = batch["weights"].numpy() > 0
    np.testing.assert_array_equal(again[counted][:, 1:], logits[counted][:, 1:])  # but for the logit of [PAD] itself


def test_sentinels_must_suffice_and_be_in_the_vocabulary(build, method):
    with pytest.raises(OptionsError, match="span_corruption: passages of 128 tokens lose up to 64 spans, "):
        build("span_corruption", length=128, share=0.5, span=1.0)
    vocabulary = (*SPECIAL, *(f"word{number}" for number in range(195)))
    with pytest.raises(DataError, match=r"the vocabulary lacks <extra_id_0> to <extra_id_\d+> after \[MASK\]"):
        build("span_corruption", length=32, data=kzoo.DataFacts(vocabulary=vocabulary))


def test_it_learns_what_can_be_read_off_and_writes_it(build):
    """Passages in which three words repeat: what was taken out follows from what is left."""
    rng = np.random.default_rng(0)
    words = np.tile(rng.integers(WORDS, WORDS + 12, (96, 3)), (1, 7))
    tokens = np.concatenate([np.full((96, 1), CLS), words, np.full((96, 1), SEP)], axis=1).astype("int32")
    vocabulary = (*SPECIAL, *SENTINELS, *(f"w{number}" for number in range(163)))
    source = text_source("triples", tokens, vocabulary)
    method = build("span_corruption", length=23, data=source, dropout=0.0, layers=1, share=0.1)
    method.compile(keras.optimizers.Adam(3e-3))
    history = method.fit(source, batch_size=32, epochs=40, verbose=0).history
    assert history["word_accuracy"][-1] > 0.5  # a guess among the twelve: 0.08
    raw = source.decode(tf.range(4, dtype=tf.int64))
    batch = method.transform(raw, tf.range(4, dtype=tf.int64))
    answers = method.visualise(raw, batch)
    assert list(answers) == ["shown", "written", "taken out"]
    for shown, wrote, truth in zip(*answers.values(), strict=True):
        assert "<extra_id_0>" in shown
        assert wrote.startswith("<extra_id_0> w")
        assert wrote.endswith("[SEP]")
        assert truth.startswith("<extra_id_0> w")
    texts = method.write(batch["corrupted_tokens"])
    right = (texts == batch["target_tokens"].numpy())[batch["weights"].numpy() > 0]
    assert right.mean() > 0.6
