"""What is particular to the bridge to keras.applications; what every backbone must do: tests/test_conformance.py."""

import functools
import importlib
import urllib.error

import keras
import numpy as np
import pytest
from kzoo_keras_applications import plugin
from kzoo_keras_applications.options import KerasApplicationsOptions
from pydantic import ValidationError

from kzoo.errors import KzooError, RecipeError
from kzoo.layers import BatchNormalization, every_layer

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
def test_each_map_has_half_the_side_of_the_one_before(name):
    outputs = shared(name)(images(2, 64, 64, 3))
    np.testing.assert_allclose(outputs["embedding"], np.mean(outputs["map"], axis=(1, 2)), rtol=1e-4, atol=1e-5)
    maps = [outputs[f"map_{level}"] for level in range(1, len(outputs) - 1)]
    # down to the 32nd part of the image's
    expected = [2 * 2**power for power in reversed(range(len(maps) + 1))]
    assert [value.shape[1] for value in (*maps, outputs["map"])] == expected


@pytest.mark.parametrize("name", SPECS)
def test_batch_normalisation_is_kzoos(name):
    norms = [x for x in every_layer(shared(name)) if isinstance(x, keras.layers.BatchNormalization)]
    assert {(type(norm), norm.momentum) for norm in norms} <= {(BatchNormalization, 0.9)}
    assert norms or name == "convnext_tiny"


def test_batch_normalisation_is_kzoos_in_a_copy_too():
    model = shared("mobilenetv3_small")
    copy = type(model).from_config(model.get_config())
    norms = [x for x in every_layer(copy) if isinstance(x, keras.layers.BatchNormalization)]
    assert {(type(norm), norm.momentum) for norm in norms} == {(BatchNormalization, 0.9)}


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


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("mobilenetv3_small", "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"),
    ],
)
def test_weights_that_cannot_be_downloaded_say_where_the_file_must_lie(name, file, tmp_path, monkeypatch):
    def offline(*_):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", offline)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(
        KzooError, match=f"keras_applications/{name}: the weights could not be downloaded; put"
    ) as caught:
        build(name, (32, 32, 3), weights="imagenet")
    assert f"/{file} there as {tmp_path / 'models' / file}, or set backbone.options.weights to null" in str(
        caught.value
    )


def test_another_fault_while_weights_are_sought_stays_as_it_is(monkeypatch):
    def broken(**_):
        raise ZeroDivisionError

    monkeypatch.setattr("keras.applications.resnet.ResNet50", broken)
    with pytest.raises(ZeroDivisionError):
        build("resnet50", (32, 32, 3), weights="imagenet")
