import functools
import importlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_keras_applications import plugin
from kzoo_keras_applications.options import KerasApplicationsOptions
from pydantic import ValidationError

from kzoo.errors import RecipeError
from kzoo.layers import BatchNormalization

SPECS = {spec.name.removeprefix("keras_applications/"): spec for spec in plugin.kzoo_backbones()}


def build(name, input_shape, **options):
    spec = SPECS[name]
    module, _, function = spec.target.partition(":")
    return getattr(importlib.import_module(module), function)(input_shape, spec.options(**options))


@functools.cache
def shared(name):
    """The backbone for 64x64x3, built once: these networks take seconds to build."""
    return build(name, (64, 64, 3))


def images(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype("float32")


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (64, 64, 3)])
def test_outputs_and_shapes_are_those_of_the_record(name, shape):
    model = shared(name) if shape == (64, 64, 3) else build(name, shape)
    outputs = model(images(2, *shape))
    assert model.input_shape == (None, *shape)
    assert set(outputs) == set(SPECS[name].offers)
    np.testing.assert_allclose(outputs["embedding"], np.mean(outputs["map"], axis=(1, 2)), rtol=1e-4, atol=1e-5)
    maps = [outputs[f"map_{level}"] for level in range(1, len(outputs) - 1)]
    # each level has half the side of the one before, down to the 32nd part of an image of at least 32 pixels
    side = max(shape[0], 32) // 32
    expected = [side * 2**power for power in reversed(range(1, len(maps) + 1))]
    assert [value.shape[1] for value in (*maps, outputs["map"])] == [*expected, side]


PUBLISHED = {
    "resnet50": (keras.applications.ResNet50, keras.applications.resnet.preprocess_input, 23_587_712),
    "convnext_tiny": (keras.applications.ConvNeXtTiny, keras.applications.convnext.preprocess_input, 27_820_128),
    "efficientnetv2_b0": (
        keras.applications.EfficientNetV2B0,
        keras.applications.efficientnet_v2.preprocess_input,
        5_919_312,
    ),
    "mobilenetv3_small": (
        keras.applications.MobileNetV3Small,
        keras.applications.mobilenet_v3.preprocess_input,
        939_120,
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_equals_the_published_model_on_0_to_255(name):
    """The preprocessing is right: same weights, Keras' own model on raw pixel values through its `preprocess_input`."""
    model = shared(name)
    constructor, preprocess, parameters = PUBLISHED[name]
    published = constructor(include_top=False, weights=None, input_shape=(64, 64, 3))
    assert model.count_params() == published.count_params() == parameters
    published.set_weights([weight.numpy() for weight in model.weights])
    x = images(2, 64, 64, 3)
    want = published(preprocess(x * 255.0))
    assert not np.allclose(published(x), want, rtol=1e-3, atol=1e-4 * np.max(np.abs(want)))
    np.testing.assert_allclose(model(x)["map"], want, rtol=1e-3, atol=1e-4 * np.max(np.abs(want)))


@pytest.mark.parametrize("name", SPECS)
def test_grey_images_are_repeated(name):
    grey, colour = build(name, (32, 32, 1)), build(name, (32, 32, 3))
    colour.set_weights(grey.get_weights())
    x = images(2, 32, 32, 1)
    np.testing.assert_allclose(
        grey(x)["embedding"], colour(np.repeat(x, 3, axis=-1))["embedding"], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", SPECS)
def test_gradient_reaches_every_trainable_weight_and_nothing_is_random(name):
    model = shared(name)
    x = images(4, 64, 64, 3)
    with tf.GradientTape() as tape:
        outputs = model(x, training=True)
        noise = tf.random.stateless_normal(tf.shape(outputs["map"]), seed=[0, 1])
        loss = tf.reduce_sum(outputs["map"] * noise) + tf.reduce_sum(tf.square(outputs["embedding"]))
    variables = [variable.value for variable in model.trainable_variables]
    for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, variables), strict=True):
        assert gradient is not None, variable.path
        assert np.any(np.array(gradient) != 0), variable.path
    # dropout would draw alike on all replicas, so it is off
    np.testing.assert_array_equal(model(x, training=True)["map"], outputs["map"])


@pytest.mark.parametrize("name", SPECS)
def test_reload_gives_the_same_outputs_and_layers(name, tmp_path):
    model = shared(name)
    x = images(2, 64, 64, 3)
    model(x, training=True)  # moves the moving statistics away from their start
    want = model(x)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    again = keras.saving.load_model(tmp_path / "model.keras")
    first = again(x)
    again.set_weights([np.zeros(weight.shape, weight.dtype) for weight in again.weights])
    again.load_weights(tmp_path / "model.weights.h5")
    for got in (first, again(x)):
        for key in want:
            np.testing.assert_allclose(got[key], want[key], rtol=1e-4, atol=1e-5)
    for other in (model, again):
        norms = [layer for layer in other._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
        assert {type(norm) for norm in norms} <= {BatchNormalization}
        assert {norm.momentum for norm in norms} <= {0.9}
        assert norms or name == "convnext_tiny"


def test_weights_are_asked_for_by_name(monkeypatch):
    asked = []

    def record(weights, **arguments):
        asked.append(weights)
        return original(weights=None, **arguments)

    original = keras.applications.MobileNetV3Small
    monkeypatch.setattr(keras.applications, "MobileNetV3Small", record)
    build("mobilenetv3_small", (32, 32, 3))
    build("mobilenetv3_small", (32, 32, 3), weights="imagenet")
    assert asked == [None, "imagenet"]
    with pytest.raises(ValidationError, match="imagenet"):
        KerasApplicationsOptions(weights="places")


def test_small_images_are_enlarged_and_others_are_not():
    model = build("mobilenetv3_small", (8, 40, 3))
    assert model.get_layer("enlarge").output.shape == (None, 32, 40, 3)
    assert np.all(np.isfinite(model(images(1, 8, 40, 3))["embedding"]))
    assert "enlarge" not in [layer.name for layer in shared("mobilenetv3_small").layers]


def test_shapes_that_cannot_work_are_refused():
    with pytest.raises(RecipeError, match="not 2 channels"):
        build("resnet50", (32, 32, 2))
    with pytest.raises(RecipeError, match="both sides open or none"):
        build("resnet50", (None, 28, 3))
    open_sides = build("mobilenetv3_small", (None, None, 3))
    assert [open_sides(images(1, side, side, 3))["embedding"].shape for side in (32, 48)] == [(1, 576)] * 2


def test_listing_does_not_import_tensorflow():
    code = (
        "import sys; from kzoo_keras_applications import plugin; assert len(list(plugin.kzoo_backbones())) == 4; "
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
