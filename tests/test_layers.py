import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import losses
from kzoo.distribute.devices import make_strategy
from kzoo.errors import RecipeError
from kzoo.layers import (
    BatchNormalization,
    Dropout,
    LayerNormalization,
    SelfAttention,
    TransformerBlock,
    dropout_keys,
    every_layer,
    gelu,
    mlp_head,
    split_batch_statistics,
    swap_batch_normalization,
)
from kzoo.testing import train_on_replicas


def pair(stock_class, ours_class, shape, **arguments):
    """The stock layer and ours with the same arguments and the same random weights."""
    stock, ours = stock_class(**arguments), ours_class(**arguments)
    stock.build(shape)
    ours.build(shape)
    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.5, 2.0, w.shape) for w in stock.weights]
    stock.set_weights(weights)
    ours.set_weights(weights)
    assert [w.name for w in stock.weights] == [w.name for w in ours.weights]
    return stock, ours


def outputs_and_gradients(layer, x, upstream, **call):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, **call)
    sources = [x, *[w.value for w in layer.trainable_weights]]
    return [y, *tape.gradient(y, sources, output_gradients=tf.cast(upstream, y.dtype))]


def normal(shape, mean=0.0, scale=1.0, seed=0):
    return np.random.default_rng(seed).normal(mean, scale, shape).astype("float32")


class TestBatchNormalization:
    @pytest.mark.parametrize("shape", [(12, 3), (6, 4, 5, 3), (4, 5, 3), (2, 3, 2, 2, 3)])
    @pytest.mark.parametrize("affine", [{}, {"center": False}, {"center": False, "scale": False}])
    @pytest.mark.parametrize("training", [True, False])
    def test_equals_the_stock_layer(self, shape, affine, training):
        stock, ours = pair(
            keras.layers.BatchNormalization, BatchNormalization, shape, momentum=0.9, epsilon=1e-5, **affine
        )
        x, upstream = normal(shape, mean=2.0, scale=3.0), normal(shape, seed=1)
        expected = outputs_and_gradients(stock, x, upstream, training=training)
        for want, got in zip(expected, outputs_and_gradients(ours, x, upstream, training=training), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
        for want, got in zip(stock.get_weights(), ours.get_weights(), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)

    def test_defaults_are_torchs_and_the_moving_variance_is_biased(self):
        layer = BatchNormalization()
        layer(np.array([[1.0], [3.0]], "float32"), training=True)
        # mean 2 and biased variance 1 (unbiased: 2), a tenth of which enters the averages 0 and 1
        np.testing.assert_allclose([layer.moving_mean[0], layer.moving_variance[0]], [0.2, 1.0], rtol=1e-6)
        assert layer.epsilon == 1e-5

    def test_frozen_layer_uses_and_keeps_moving_statistics(self):
        layer = BatchNormalization()
        layer.build((4, 2))
        layer.trainable = False
        x = normal((4, 2), mean=5.0)
        np.testing.assert_allclose(layer(x, training=True), x / np.sqrt(1 + 1e-5), rtol=1e-5)
        np.testing.assert_array_equal(layer.moving_mean, [0.0, 0.0])

    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
    @pytest.mark.parametrize("training", [True, False])
    def test_half_precision_as_the_stock_layer(self, policy, training):
        shape = (16, 4, 4, 3)
        stock, ours = pair(
            keras.layers.BatchNormalization, BatchNormalization, shape, dtype=policy, momentum=0.9, epsilon=1e-5
        )
        x = normal(shape, mean=100.0, scale=10.0)  # squares leave the range of float16: statistics must be float32
        want, got = stock(x, training=training), ours(x, training=training)
        assert got.dtype == want.dtype == stock.compute_dtype
        np.testing.assert_allclose(tf.cast(got, "float32"), tf.cast(want, "float32"), rtol=0.02, atol=0.02)
        for name in ("moving_mean", "moving_variance"):
            np.testing.assert_allclose(getattr(ours, name), getattr(stock, name), rtol=1e-3)
            assert getattr(ours, name).dtype == "float32"

    def test_channels_first_and_masked_inputs_take_the_stock_path(self):
        x, both = normal((4, 3, 5), mean=1.0), {"momentum": 0.5, "epsilon": 1e-5}
        stock, ours = pair(keras.layers.BatchNormalization, BatchNormalization, x.shape, axis=1, **both)
        np.testing.assert_allclose(ours(x, training=True), stock(x, training=True), atol=1e-5)
        stock, ours = pair(keras.layers.BatchNormalization, BatchNormalization, x.shape, **both)
        mask = np.array([[True, True, False]] * 4)
        np.testing.assert_allclose(ours(x, training=True, mask=mask), stock(x, training=True, mask=mask), atol=1e-5)
        np.testing.assert_allclose(ours.moving_mean, stock.moving_mean, atol=1e-5)
        assert not np.allclose(ours(x, training=True), ours(x, training=True, mask=mask))

    def test_configuration_is_the_stock_layers(self):
        ours = BatchNormalization(momentum=0.8, scale=False)
        stock = keras.layers.BatchNormalization.from_config(ours.get_config())
        assert stock.get_config() == ours.get_config()
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(ours))
        assert type(again) is BatchNormalization
        assert again.get_config() == ours.get_config()


def normalise_on_replicas(shape, local, synchronized=True):
    """Outputs and gradients of one device and of two replicas that see a half each; the layer of the one, and the
    moving statistics of the two."""
    strategy = make_strategy("mirrored", 2, 2)
    rng = np.random.default_rng(0)
    x = rng.normal(1000.0, 3.0, (8, *shape)).astype("float32")  # a far mean: naive E[x^2] - E[x]^2 would cancel
    x[4:] += 2.0  # the replicas' halves differ
    up = rng.normal(size=x.shape).astype("float32")

    def step(layer, x, up):
        with split_batch_statistics(1) if local else contextlib.nullcontext():
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            grads = tape.gradient(y, [x, layer.gamma.value, layer.beta.value], output_gradients=up)
        return y, *grads

    single = BatchNormalization()
    single.build(x.shape)
    want = [np.array(v) for v in step(single, tf.constant(x), tf.constant(up))]
    with strategy.scope():
        layer = BatchNormalization(synchronized=synchronized)
        layer.build(x.shape)
    halves = [
        strategy.experimental_distribute_values_from_function(
            lambda c, a=a: tf.constant(np.split(a, 2)[c.replica_id_in_sync_group])
        )
        for a in (x, up)
    ]
    got = tf.function(lambda x, up: strategy.run(step, (layer, x, up)))(*halves)
    got = [strategy.experimental_local_results(v) for v in got]
    joined = [np.concatenate(v) if i < 2 else np.sum(v, axis=0) for i, v in enumerate(got)]
    moving = [
        [np.array(c) for c in strategy.experimental_local_results(w.value)]
        for w in (layer.moving_mean, layer.moving_variance)
    ]
    for copies in moving:
        np.testing.assert_array_equal(*copies)
    return x, want, joined, single, [copies[0] for copies in moving]


SHAPES = [(3,), (4, 4, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_replicas_synchronise(shape):
    _, want, got, single, moving = normalise_on_replicas(shape, local=False)
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(moving[0], single.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(moving[1], single.moving_variance, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("told", [{"local": True}, {"local": False, "synchronized": False}])
def test_replicas_do_not_synchronise_when_told(shape, told):
    x, want, got, _, moving = normalise_on_replicas(shape, **told)
    assert np.abs(want[0] - got[0]).max() > 0.05  # each half by its own mean
    axes = tuple(range(len(shape)))
    for half in (0, 1):
        part = np.split(x, 2)[half].astype("float64")
        alone = (part - part.mean(axes)) / np.sqrt(part.var(axes) + 1e-5)
        np.testing.assert_allclose(np.split(got[0], 2)[half], alone, rtol=2e-4, atol=2e-4)
    variance = np.mean([p.astype("float64").var(axes) for p in np.split(x, 2)], axis=0)
    np.testing.assert_allclose(moving[1], 0.9 + 0.1 * variance, rtol=1e-4)
    np.testing.assert_allclose(moving[0], 0.1 * x.mean(axes), rtol=1e-5)


def dropped(keys, x=None, name="dropout", rate=0.25):
    """What the layer makes of ones, or of x, with these keys."""
    with dropout_keys(tf.constant(keys, tf.int64)):
        return Dropout(rate, name=name)(tf.ones((len(keys), 40, 50)) if x is None else x, training=True).numpy()


class TestDropout:
    def test_a_share_is_zero_and_the_rest_makes_up_for_it(self):
        kept = dropped(range(10))
        np.testing.assert_allclose(np.unique(kept), [0.0, 1 / 0.75], rtol=1e-6)
        assert abs(np.mean(kept == 0) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / kept.size)
        x = tf.Variable(tf.ones((1, 8)))
        with tf.GradientTape() as tape, dropout_keys(tf.constant([3], tf.int64)):
            y = Dropout(0.5, name="dropout")(x, training=True)
        np.testing.assert_array_equal(tape.gradient(y, x), y)  # of ones: kept or not is also the gradient

    def test_the_key_and_the_name_decide_and_nothing_else(self):
        every = dropped([5, 6, 7, 8])
        np.testing.assert_array_equal(dropped([5, 6, 7, 8]), every)
        np.testing.assert_array_equal(dropped([7, 5]), every[[2, 0]])  # in another batch, at another place
        rows = [row.ravel() > 0 for row in (*every, dropped([5], name="other")[0])]
        agreement = np.corrcoef(rows) - np.eye(5)
        assert np.abs(agreement).max() < 5 / np.sqrt(2000)

    def test_each_copy_of_an_example_draws_for_itself(self):
        twice = dropped([5, 6], tf.ones((4, 40, 50)))
        np.testing.assert_array_equal(twice[[0, 2]], dropped([5, 6]))  # the first copy loses what the only one would
        assert not np.array_equal(twice[0], twice[1])
        np.testing.assert_array_equal(dropped([6], tf.ones((2, 40, 50))), twice[2:])

    def test_unknown_sizes_in_a_graph(self):
        @tf.function(input_signature=[tf.TensorSpec([None, None, 50]), tf.TensorSpec([None], tf.int64)])
        def graph(x, keys):
            with dropout_keys(keys):
                return Dropout(0.25, name="dropout")(x, training=True)

        np.testing.assert_array_equal(graph(tf.ones((2, 40, 50)), [5, 6]), dropped([5, 6]))

    def test_inference_and_rate_0_change_nothing(self):
        x = normal((2, 3))
        np.testing.assert_array_equal(Dropout(0.5, name="dropout")(x), x)
        np.testing.assert_array_equal(Dropout(0.0, name="dropout")(x, training=True), x)

    def test_training_without_keys_and_nonsense_are_refused(self):
        with pytest.raises(TypeError, match="drop_here: no keys to draw from; train with minimise"):
            Dropout(0.5, name="drop_here")(tf.ones((2, 3)), training=True)
        for rate in (1.0, -0.1):
            with pytest.raises(RecipeError, match=f"drop_here: rate: expected 0 <= rate < 1. Received: {rate}"):
                Dropout(rate, name="drop_here")

    def test_half_precision_and_reload(self, tmp_path):
        with dropout_keys(tf.range(2, dtype=tf.int64)):
            assert Dropout(0.5, name="a", dtype="mixed_bfloat16")(tf.ones((2, 3)), training=True).dtype == tf.bfloat16
        x = inputs = keras.Input((4,))
        keras.Model(inputs, Dropout(0.5, name="a")(x)).save(tmp_path / "model.keras")
        [layer] = keras.saving.load_model(tmp_path / "model.keras").layers[1:]
        assert (layer.rate, layer.name) == (0.5, "a")


class Guess(kzoo.Method):
    """Classifies by one Dense layer after dropout."""

    options: kzoo.Options

    @staticmethod
    def pretext(batch, seed, options):
        return {"image": tf.cast(batch["image"], tf.float64) / 255.0, "number": tf.cast(batch["id"] % 4, tf.int32)}

    def forward(self, batch, training):
        return {"logits": self.embed(batch["image"], training)}

    def loss(self, outputs, batch):
        return losses.cross_entropy(outputs["logits"], batch["number"])


def dropout_model():
    x = inputs = keras.Input((4, 4, 1))
    x = Dropout(0.5, name="dropout")(keras.layers.Flatten()(x))
    return keras.Model(inputs, {"embedding": keras.layers.Dense(4, kernel_initializer="ones")(x)})


def test_dropout_trains_alike_on_replicas_and_again():
    images = np.random.default_rng(0).integers(0, 256, (16, 4, 4, 1)).astype("uint8")

    def train(count):
        return train_on_replicas(lambda: Guess(dropout_model()), count, images=images, batch_size=8, steps=4)

    one = train(1)
    assert one.distance(train(1)) == 0.0
    assert one.distance(train(2)) < 1e-12
    assert np.ptp(one.losses) > 1e-3


class Composite(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.norm = keras.layers.BatchNormalization()

    def build(self, input_shape):
        self.norm.build(input_shape)

    def call(self, inputs, training=None):
        return self.norm(inputs, training=training)


class TestSwapBatchNormalization:
    def model(self):
        x = inputs = keras.Input((6, 6, 2))
        x = keras.layers.Conv2D(3, 3)(x)
        x = keras.Sequential([keras.layers.BatchNormalization(scale=False), keras.layers.ReLU()])(x)
        x = Composite()(keras.layers.BatchNormalization(axis=3)(x))
        model = keras.Model(inputs, {"map": x, "embedding": keras.layers.GlobalAveragePooling2D()(x)})
        rng = np.random.default_rng(0)
        model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.weights])
        return model

    def test_same_weights_and_outputs_with_our_layers(self):
        model, swapped = self.model(), swap_batch_normalization(self.model())
        layers = [layer for layer in every_layer(swapped) if isinstance(layer, keras.layers.BatchNormalization)]
        assert [type(layer) for layer in layers] == [BatchNormalization] * 3
        assert all(layer.synchronized for layer in layers)
        assert {layer.epsilon for layer in layers} == {1e-3}  # the model's own setting, not our default
        for want, got in zip(model.weights, swapped.weights, strict=True):
            np.testing.assert_array_equal(got, want)
        x = normal((4, 6, 6, 2))
        for training in (True, False):  # the second compares the updated moving statistics too
            expected, outputs = model(x, training=training), swapped(x, training=training)
            for name, want in expected.items():
                np.testing.assert_allclose(outputs[name], want, atol=1e-5)

    def test_momentum_is_kept_or_set(self):
        for momentum, expected in ((None, 0.99), (0.9, 0.9)):
            model = swap_batch_normalization(self.model(), momentum)
            norms = [layer for layer in every_layer(model) if isinstance(layer, BatchNormalization)]
            assert [layer.momentum for layer in norms] == [expected] * 3

    def test_a_functional_model_remembers_it(self, tmp_path):
        model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])
        swap_batch_normalization(model).save(tmp_path / "model.keras")
        assert type(keras.saving.load_model(tmp_path / "model.keras").layers[0]) is BatchNormalization

    def test_subclasses_with_a_call_of_their_own_stay(self):
        class Other(keras.layers.BatchNormalization):
            pass

        assert type(swap_batch_normalization(keras.Sequential([Other()])).layers[0]) is Other


def test_gelu_and_its_gradient_are_tensorflows():
    x = tf.constant(np.linspace(-6.0, 6.0, 401), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours, exact = gelu(x), tf.nn.gelu(x, approximate=False)
    np.testing.assert_allclose(ours, exact, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(ours, x), tape.gradient(exact, x), atol=1e-6)
    assert float(gelu(tf.constant(1.0))) == pytest.approx(0.8413447)  # the normal distribution's Φ(1)
    dense = keras.layers.Dense.from_config(keras.layers.Dense(2, activation=gelu).get_config())
    assert dense.activation is gelu


class TestLayerNormalization:
    @pytest.mark.parametrize("affine", [{}, {"center": False}, {"center": False, "scale": False}])
    def test_equals_the_stock_layer(self, affine):
        shape = (3, 5, 8)
        stock, ours = pair(keras.layers.LayerNormalization, LayerNormalization, shape, epsilon=1e-6, **affine)
        x, upstream = normal(shape, mean=2.0, scale=3.0), normal(shape, seed=1)
        expected = outputs_and_gradients(stock, x, upstream)
        for want, got in zip(expected, outputs_and_gradients(ours, x, upstream), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)

    def test_other_axes_take_the_stock_path(self):
        stock, ours = pair(keras.layers.LayerNormalization, LayerNormalization, (3, 5, 8), axis=1, epsilon=1e-6)
        x = normal((3, 5, 8))
        np.testing.assert_allclose(ours(x), stock(x), atol=1e-5)

    def test_mixed_precision_keeps_float32_statistics(self):
        layer = LayerNormalization(dtype="mixed_float16")
        y = layer(tf.constant([[300.0, 400.0, 500.0]], tf.float16))  # squares overflow float16
        assert y.dtype == tf.float16
        np.testing.assert_allclose(tf.cast(y, "float32"), [[-1.2247, 0.0, 1.2247]], atol=2e-3)


class TestAttention:
    def test_equals_keras_multi_head_attention(self):
        width, heads = 12, 3
        ours, stock = SelfAttention(heads), keras.layers.MultiHeadAttention(heads, width // heads)
        x = normal((2, 5, width))
        ours.build(x.shape)
        stock.build(x.shape, x.shape)
        kernel, bias, out_kernel, out_bias = [normal(w.shape, seed=i) for i, w in enumerate(ours.weights)]
        ours.set_weights([kernel, bias, out_kernel, out_bias])
        split = [
            part
            for k, b in zip(np.split(kernel, 3, axis=1), np.split(bias, 3), strict=True)
            for part in (k.reshape(width, heads, -1), b.reshape(heads, -1))
        ]
        stock.set_weights([*split, out_kernel.reshape(heads, -1, width), out_bias])
        np.testing.assert_allclose(ours(x), stock(x, x), rtol=1e-4, atol=1e-4)

    def test_is_equivariant_to_the_order_of_tokens(self):
        block = TransformerBlock(heads=2)
        x, order = normal((2, 6, 8)), [3, 1, 5, 0, 2, 4]
        np.testing.assert_allclose(block(x[:, order]), np.array(block(x))[:, order], atol=1e-5)

    def test_tokens_that_are_not_visible_are_as_if_they_were_not_there(self):
        block = TransformerBlock(heads=2)
        x = normal((2, 6, 8))
        visible = tf.constant([[True] * 4 + [False] * 2] * 2)
        np.testing.assert_allclose(block(x, visible)[:, :4], block(x[:, :4]), atol=1e-5)

    def test_in_float64_nothing_is_rounded_to_float32(self):
        attention = SelfAttention(2, dtype="float64")
        x = normal((1, 5, 8)).astype("float64")
        attention.build(x.shape)
        order = [3, 1, 4, 0, 2]
        np.testing.assert_allclose(attention(x[:, order]), np.array(attention(x))[:, order], rtol=0, atol=1e-13)
        query, key, value = np.split(x[0] @ np.array(attention.query_key_value.kernel), 3, axis=1)
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            weights = np.exp(query[:, head] @ key[:, head].T / 2)
            heads.append(weights / weights.sum(1, keepdims=True) @ value[:, head])
        expected = np.concatenate(heads, axis=1) @ np.array(attention.projection.kernel)
        np.testing.assert_allclose(attention(x)[0], expected, rtol=0, atol=1e-13)

    def test_width_that_does_not_divide_is_refused(self):
        with pytest.raises(RecipeError, match=r"width of 10 .* heads=4"):
            SelfAttention(4).build((None, 5, 10))

    def test_block_reloads_with_the_same_outputs(self, tmp_path):
        inputs = keras.Input((None, 8))
        model = keras.Model(inputs, TransformerBlock(heads=2, mlp_ratio=2.0)(inputs))
        assert model.output_shape == (None, None, 8)
        # norms 2 * 16, qkv 8 * 24 + 24, projection 8 * 8 + 8, mlp 8 * 16 + 16 + 16 * 8 + 8
        assert model.count_params() == 32 + 216 + 72 + 144 + 136
        model.save(tmp_path / "block.keras")
        x = normal((2, 5, 8))
        np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "block.keras")(x), model(x))


def describe(head, width=6):
    """One word per layer: dense with or without bias, norm with the parts it has, relu."""
    head.build((None, width))
    words = []
    for layer in head.layers:
        if isinstance(layer, keras.layers.Dense):
            words.append(f"{layer.units}{'+b' if layer.use_bias else ''}")
        elif isinstance(layer, BatchNormalization):
            words.append("norm" + "gamma" * layer.scale + "beta" * layer.center)
        else:
            words.append("relu")
    return " ".join(words)


@pytest.mark.parametrize(
    ("widths", "arguments", "expected"),
    [
        ([8, 4], {"hidden_norm": True, "final_norm": "no_beta"}, "8 normgammabeta relu 4 normgamma"),  # SimCLR
        ([4], {}, "4+b"),  # MoCo v1
        ([8, 4], {}, "8+b relu 4+b"),  # MoCo v2
        ([8, 4], {"hidden_norm": True}, "8 normgammabeta relu 4+b"),  # BYOL, SimSiam's predictor
        (
            [8, 8, 4],
            {"hidden_norm": True, "final_norm": "no_affine"},
            "8 normgammabeta relu 8 normgammabeta relu 4 norm",
        ),  # SimSiam's projector
        (
            [8, 8, 4],
            {"hidden_norm": True, "final_bias": False},
            "8 normgammabeta relu 8 normgammabeta relu 4",
        ),  # Barlow Twins
        ([4], {"final_norm": True}, "4 normgammabeta"),
    ],
)
def test_heads_of_the_literature(widths, arguments, expected):
    assert describe(mlp_head(widths, **arguments)) == expected


def test_a_head_needs_a_width():
    with pytest.raises(RecipeError, match="at least one width"):
        mlp_head([])


def test_split_batch_statistics_normalise_each_part_alone_and_average_into_the_moving_statistics():
    from kzoo.layers import BatchNormalization, split_batch_statistics

    x = np.random.default_rng(0).normal(2.0, 3.0, (8, 5, 5, 3)).astype("float32")
    layer = BatchNormalization(momentum=0.5)
    layer.build(x.shape)
    with split_batch_statistics(4):
        got = np.asarray(layer(x, training=True))
    means, variances = [], []
    for i in range(4):
        part = x[2 * i : 2 * i + 2]
        means.append(part.mean((0, 1, 2)))
        variances.append(part.var((0, 1, 2)))
        np.testing.assert_allclose(
            got[2 * i : 2 * i + 2], (part - means[-1]) / np.sqrt(variances[-1] + 1e-5), atol=1e-5
        )
    np.testing.assert_allclose(layer.moving_mean, 0.5 * np.mean(means, axis=0), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.5 + 0.5 * np.mean(variances, axis=0), rtol=1e-5)
    assert np.abs(np.asarray(layer(x, training=True)) - got).max() > 0.01  # outside the context: one batch again
