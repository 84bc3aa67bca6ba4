"""A backbone that keeps the contract, and many that break it in one place each."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from kzoo.layers import Dropout
from kzoo.options import Options
from kzoo.patches import KeptPatches, MaskedPatches, Positions
from kzoo.specs import BackboneSpec


def spec(name, **more):
    """The record of a function here."""
    about = {
        "name": name,
        "family": "faulty",
        "summary": f"What {name} does",
        "offers": ("embedding", "map", "map_1"),
    }
    return BackboneSpec(**about | {"target": f"faulty_backbones:{name}", "options": Options, **more})


def _body(x):
    first = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="first")(x)
    return first, layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="second")(first)


def _model(inputs, first, last, embedding=None, **more):
    pooled = layers.GlobalAveragePooling2D(name="embedding")(last)
    outputs = {"embedding": pooled if embedding is None else embedding, "map": last, "map_1": first, **more}
    return keras.Model(inputs, outputs)


def good(shape, options):
    inputs = keras.Input(shape, name="image")
    return _model(inputs, *_body(inputs))


def nameless(shape, options):
    inputs = keras.Input(shape)
    return _model(inputs, *_body(inputs))


def nothing(shape, options):
    return None


def one_more(shape, options):
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, first, last, tokens=layers.Reshape((-1, 8))(last))


def flat_map(shape, options):
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return keras.Model(
        inputs, {"embedding": layers.GlobalAveragePooling2D()(last), "map": layers.Flatten()(last), "map_1": first}
    )


def coarse_to_fine(shape, options):
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, last, first)


def own_size(shape, options):
    inputs = keras.Input((16, 16, 3), name="image")
    return _model(inputs, *_body(inputs))


def constant(shape, options):
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, first, last, embedding=layers.GlobalAveragePooling2D()(0.0 * last))


def infinite(shape, options):
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, first, last / 0.0)


@keras.saving.register_keras_serializable(package="faulty")
class BatchMean(layers.Layer):
    def call(self, x):
        return x - tf.reduce_mean(x, axis=0)


def batch_statistics(shape, options):
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, first, BatchMean()(last))


@keras.saving.register_keras_serializable(package="faulty")
class Ignored(layers.Layer):
    """Has a weight that it does not use."""

    def build(self, shape):
        self.kernel = self.add_weight(name="kernel", shape=(2, 2))

    def call(self, x):
        return 1.0 * x


def unused(shape, options):
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, first, Ignored(name="ignored")(last))


@keras.saving.register_keras_serializable(package="faulty")
class Severed(Ignored):
    def call(self, x):
        return x + 0.0 * tf.reduce_sum(self.kernel)


def severed(shape, options):
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, first, Severed(name="severed")(last))


def dropout(shape, options):
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, first, layers.Dropout(0.5)(last))


def by_example(shape, options):
    """Leaves out as the examples' keys say."""
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, first, Dropout(options.dropout, name="drop")(last))


def dense(shape, options):
    """Takes one size only."""
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, first, last, embedding=layers.Dense(8)(layers.Flatten()(last)))


def large_only(shape, options):
    if shape[0] and shape[0] < 16:
        raise ValueError("images must have 16 pixels")
    return good(shape, options)


def half_infinite(shape, options):
    """Finite in float32 alone."""
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    big = layers.Rescaling(1e38)(
        layers.Rescaling(1e-38)(last) if keras.config.dtype_policy().name == "float32" else last
    )
    return _model(inputs, first, layers.Rescaling(10.0)(big))


class Unregistered(layers.Layer):
    def call(self, x):
        return 2.0 * x


def unregistered(shape, options):
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, first, Unregistered()(last))


@keras.saving.register_keras_serializable(package="faulty")
class Lucky(layers.Layer):
    """Adds a number that is drawn on building, and neither weight nor configuration."""

    def build(self, shape):
        self.number = np.random.default_rng().uniform(1.0, 2.0)

    def call(self, x):
        return x + self.number


def lucky(shape, options):
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, first, Lucky()(last))


@keras.saving.register_keras_serializable(package="faulty")
class Talking(layers.Layer):
    def call(self, x):
        with tf.control_dependencies([tf.print("", end="")]):
            return tf.identity(x)


def talking(shape, options):
    inputs = keras.Input(shape, name="image")
    first, last = _body(inputs)
    return _model(inputs, first, Talking()(last))


def _tokens(shape, *, size=8, overlap=0, places_after=False):
    """Tokens of 4 x 4 patches, mixed once with the mean of all, so that each depends on the others."""
    inputs = keras.Input(shape)
    x = layers.Conv2D(8, 8 + overlap, 8, padding="same", name="patches")(inputs)
    x = MaskedPatches(name="hide")(x)
    x = x if places_after else Positions(name="place")(x)
    tokens = KeptPatches(size, name="tokens")(x)
    if places_after:
        tokens = layers.Embedding(16, 8)(Order()(tokens)) + tokens
    mean = layers.GlobalAveragePooling1D(keepdims=True)(tokens)
    tokens = layers.Dense(8, activation="gelu", name="mixed")(tokens + mean)
    return keras.Model(inputs, {"embedding": layers.GlobalAveragePooling1D()(tokens), "tokens": tokens}, name="net")


@keras.saving.register_keras_serializable(package="faulty")
class Order(layers.Layer):
    """The number of each token in the order that comes."""

    def call(self, x):
        return tf.range(tf.shape(x)[1])[None] + tf.zeros([tf.shape(x)[0], 1], tf.int32)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape[:2], dtype="int32")


def patched(shape, options):
    """As it should be."""
    return _tokens(shape)


def wrong_patch_size(shape, options):
    return _tokens(shape, size=4)


def overlapping(shape, options):
    return _tokens(shape, overlap=4)


def places_after(shape, options):
    return _tokens(shape, places_after=True)


def kept_and_not_hidden(shape, options):
    """Kept patches alone: the other layer is in no graph."""
    inputs = keras.Input(shape)
    x = Positions()(layers.Conv2D(8, 8, 8)(inputs))
    tokens = layers.Dense(8, activation="gelu")(KeptPatches(8)(x))
    return keras.Model(inputs, {"embedding": layers.GlobalAveragePooling1D()(tokens), "tokens": tokens}, name="net")


def glancing(shape, options):
    """Lets hidden patches through beside their vector."""
    inputs = keras.Input(shape)
    x = layers.Conv2D(8, 8, 8)(inputs)
    x = layers.Add()([Positions()(MaskedPatches()(x)), x])
    tokens = layers.Dense(8, activation="gelu")(KeptPatches(8)(x))
    return keras.Model(inputs, {"embedding": layers.GlobalAveragePooling1D()(tokens), "tokens": tokens}, name="net")


def unmasked(shape, options):
    """Takes the vector, and makes nothing of it."""
    inputs = keras.Input(shape)
    x = layers.Conv2D(8, 8, 8)(inputs)
    x = 0.0 * MaskedPatches()(x)
    tokens = layers.Dense(8, activation="gelu")(KeptPatches(8)(Positions()(x)))
    return keras.Model(inputs, {"embedding": layers.GlobalAveragePooling1D()(tokens), "tokens": tokens}, name="net")
