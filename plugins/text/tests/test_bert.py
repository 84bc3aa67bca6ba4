"""The encoder: attention as it is written, padding without effect, positions and segments, dropout of its own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_text.transformer import Attention, MeanOfVisible, Places

import kzoo
from kzoo.errors import RecipeError
from kzoo.layers import Dropout, dropout_keys, every_layer
from kzoo.text import CLS, SEP


@pytest.fixture(scope="module")
def bert():
    keras.utils.set_random_seed(0)
    return kzoo.build_backbone("bert_tiny", (16, 200))


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("cross", [False, True])
def test_attention_is_as_it_is_written(cross):
    rng = np.random.default_rng(0)
    x, others = rng.normal(size=(2, 5, 6)).astype("float32"), rng.normal(size=(2, 4, 6)).astype("float32")
    read = others if cross else x
    visible = rng.uniform(size=(2, 5, read.shape[1])) < 0.6
    visible[..., 0] = True
    layer = Attention(2, 0.0, cross=cross, name="attention")
    layer.build((None, None, 6))
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    found = layer(x, visible, others) if cross else layer(x, visible)
    kernels = {weight.path.split("/")[-2] + weight.path.split("/")[-1]: weight.numpy() for weight in layer.weights}
    if cross:
        query = x @ kernels["querykernel"] + kernels["querybias"]
        key, value = np.split(read @ kernels["key_valuekernel"] + kernels["key_valuebias"], 2, axis=-1)
    else:
        joint = x @ kernels["query_key_valuekernel"] + kernels["query_key_valuebias"]
        query, key, value = np.split(joint, 3, axis=-1)
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        logits = query[..., part] @ key[..., part].transpose(0, 2, 1) / np.sqrt(3)
        heads.append(softmax(np.where(visible, logits, -np.inf)) @ value[..., part])
    expected = np.concatenate(heads, axis=-1) @ kernels["projectionkernel"] + kernels["projectionbias"]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(RecipeError, match="attention: a width of 6 does not divide by heads=4"):
        Attention(4, 0.0, name="attention").build((None, None, 6))


def test_what_stands_in_the_padding_changes_nothing(bert, passages):
    tokens = passages(8, 16)["tokens"].numpy()
    before = bert(tokens, training=False)
    table = bert.get_layer("token_embedding").embeddings
    kept = table.numpy()
    table.assign(np.concatenate([kept[:1] + 3.0, kept[1:]]))  # the vector of [PAD]
    after = bert(tokens, training=False)
    table.assign(kept)
    written = tokens != 0
    np.testing.assert_array_equal(after["tokens"][written], before["tokens"][written])
    np.testing.assert_array_equal(after["embedding"], before["embedding"])
    assert not np.array_equal(after["tokens"], before["tokens"])  # the control: the padding itself did change


def test_more_padding_changes_nothing(bert, passages):
    tokens = passages(8, 16)["tokens"].numpy()
    longer = kzoo.build_backbone("bert_tiny", (24, 200))
    for theirs, ours in zip(longer.weights, bert.weights, strict=True):
        value = ours.numpy()
        theirs.assign(np.concatenate([value, np.ones((8, 128))]) if ours.path.endswith("positions") else value)
    padded = longer(np.pad(tokens, ((0, 0), (0, 8))), training=False)
    expected = bert(tokens, training=False)
    written = tokens != 0
    np.testing.assert_allclose(padded["tokens"][:, :16][written], expected["tokens"][written], atol=1e-5)
    np.testing.assert_allclose(padded["embedding"], expected["embedding"], atol=1e-5)


def test_an_empty_passage_is_a_number(bert):
    for value in bert(np.zeros((2, 16), "int32"), training=False).values():
        assert np.isfinite(value).all()


def test_the_embedding_is_the_mean_of_what_is_written_or_the_first_token(bert, passages):
    tokens = passages(8, 16)["tokens"].numpy()
    outputs = bert(tokens, training=False)
    expected = [row[line != 0].mean(axis=0) for row, line in zip(outputs["tokens"].numpy(), tokens, strict=True)]
    np.testing.assert_allclose(outputs["embedding"], expected, atol=1e-5)
    assert not np.any(MeanOfVisible()(tf.ones((1, 4, 2)), tf.zeros((1, 1, 4), tf.bool)))
    first = kzoo.build_backbone("bert_tiny", (16, 200), pooling="cls", layers=1)
    outputs = first(tokens, training=False)
    np.testing.assert_array_equal(outputs["embedding"], outputs["tokens"][:, 0])


def test_segment_1_begins_after_the_first_sep():
    places = Places()
    places.build((None, 6, 1))
    places.set_weights([10.0 * np.arange(6)[:, None], np.array([[1.0], [2.0]])])
    tokens = np.array([[CLS, 9, SEP, 8, SEP, 0], [CLS, 9, 8, SEP, 0, 0]], "int32")
    added = places(tf.zeros((2, 6, 1)), tokens)[..., 0]
    np.testing.assert_array_equal(added, [[1, 11, 21, 32, 42, 51], [1, 11, 21, 31, 41, 51]])


def test_initial_weights_are_small_and_cut_off(bert):
    kernels = [weight.numpy() for weight in bert.weights if weight.path.endswith(("kernel", "embeddings", "positions"))]
    assert len(kernels) == 2 + 2 * 4
    for kernel in kernels:
        assert np.abs(kernel).max() <= 0.04
        assert kernel.std() == pytest.approx(0.88 * 0.02, rel=0.05)  # a normal distribution cut at 2 deviations


@pytest.mark.parametrize(
    ("name", "layers", "width"), [("bert_tiny", 2, 128), ("bert_mini", 4, 256), ("bert_small", 4, 512)]
)
def test_sizes(name, layers, width):
    model = kzoo.build_backbone(name, (8, 50))
    # query, key, value, output 4 D² + 4 D; mlp 8 D² + 5 D; two norms 4 D. Words, positions, segments, one norm.
    assert model.count_params() == layers * (12 * width**2 + 13 * width) + (50 + 8 + 2 + 2) * width


def test_dropout_follows_the_keys(bert, passages):
    tokens = passages(8, 16)["tokens"].numpy()
    layers = [layer for layer in every_layer(bert) if isinstance(layer, Dropout)]
    assert len({layer.name for layer in layers}) == len(layers) == 1 + 2 * 3
    assert {layer.rate for layer in layers} == {0.1}

    def train(keys):
        with dropout_keys(tf.constant(keys, tf.int64)):
            return bert(tokens, training=True)["embedding"].numpy()

    once = train(range(8))
    np.testing.assert_array_equal(train(range(8)), once)
    other = train([0, 1, 2, 3, 14, 15, 16, 17])
    np.testing.assert_allclose(other[:4], once[:4], atol=1e-6)
    assert np.abs(other[4:] - once[4:]).max(axis=1).min() > 1e-3
    with pytest.raises(TypeError, match="no keys to draw from"):
        bert(tokens, training=True)
