"""A cache of its own, and passages of every length to ask the methods about."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_text.options import SENTINELS

import kzoo
from kzoo.random import example_keys
from kzoo.text import CLS, SEP

WORDS = 5 + len(SENTINELS)  # the first number that is a word
VOCABULARY = 200


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """What is prepared here does not stay."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def passages():
    """passages(count, length, full=False): a raw batch of random words, [CLS] ... [SEP], of all lengths or the full."""

    def draw(count, length, full=False, seed=0):
        rng = np.random.default_rng(seed)

        def rows():
            tokens = rng.integers(WORDS, VOCABULARY, (count, length)).astype("int32")
            words = np.full(count, length - 2) if full else rng.integers(4, length - 1, count)
            tokens[:, 0] = CLS
            tokens[np.arange(count), words + 1] = SEP
            tokens[np.arange(length) > words[:, None] + 1] = 0
            return tf.constant(tokens)

        return {
            "tokens": rows(),
            "next": rows(),
            "other": rows(),
            "vocabulary_size": tf.fill([count], VOCABULARY),
            "id": tf.range(count, dtype=tf.int64),
            "label": tf.fill([count], tf.constant(-1, tf.int64)),
        }

    return draw


@pytest.fixture(scope="session")
def keys():
    """keys(raw, seed=0): the key of each example of a raw batch."""
    return lambda raw, seed=0: example_keys(seed, 0, raw["id"])


@pytest.fixture(scope="session")
def build():
    """build(method, length=16, dropout=0.1, pooling="mean", **options): around a new bert_tiny of one layer."""

    def make(method, length=16, dropout=0.1, pooling="mean", **options):
        keras.utils.set_random_seed(0)
        backbone = kzoo.build_backbone("bert_tiny", (length, VOCABULARY), layers=1, dropout=dropout, pooling=pooling)
        return kzoo.build_method(method, backbone=backbone, **options)

    return make
