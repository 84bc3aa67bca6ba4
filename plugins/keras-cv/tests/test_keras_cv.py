"""What is particular to the bridge to KerasCV; what every backbone must do is in tests/test_conformance.py."""

import functools
import importlib

import keras
import numpy as np
import pytest
from kzoo_keras_cv import plugin
from kzoo_keras_cv.backbones import ARCHITECTURES

from kzoo.errors import RecipeError
from kzoo.layers import BatchNormalization, every_layer

SPECS = {spec.name: spec for spec in plugin.kzoo_backbones()}


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


def test_every_architecture_has_a_record():
    assert {name.removeprefix("keras_cv/") for name in SPECS} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", SPECS)
def test_the_embedding_is_the_mean_of_the_map(name):
    outputs = shared(name)(images(2, 64, 64, 3))
    np.testing.assert_allclose(outputs["embedding"], np.mean(outputs["map"], axis=(1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_batch_normalisation_is_kzoos(name):
    norms = [x for x in every_layer(shared(name)) if isinstance(x, keras.layers.BatchNormalization)]
    assert {(type(norm), norm.momentum) for norm in norms} <= {(BatchNormalization, 0.9)}
    assert norms or name == "keras_cv/mit_b0"


def test_batch_normalisation_is_kzoos_in_a_copy_too():
    """The architecture is rebuilt from its name, so the swap must happen there."""
    model = shared("keras_cv/csp_darknet_tiny")
    copy = type(model).from_config(model.get_config())
    norms = [x for x in every_layer(copy) if isinstance(x, keras.layers.BatchNormalization)]
    assert {(type(norm), norm.momentum) for norm in norms} == {(BatchNormalization, 0.9)}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # KerasCV's published counts; Mix Transformer's less its 256 * 10 + 10 classifier
        ("resnet18_v2", 11_183_488),
        ("resnet50_v2", 23_564_800),
        ("densenet121", 7_037_504),
        ("csp_darknet_tiny", 2_380_416),
        ("efficientnetv2_b0", 5_919_312),
        ("mit_b0", 3_321_962 - 2_570),
    ],
)
def test_parameter_counts(name, parameters):
    assert shared(f"keras_cv/{name}").count_params() == parameters


def test_a_share_of_the_blocks():
    assert ARCHITECTURES["densenet121"].shortened(0.25)["stackwise_num_repeats"] == [2, 3, 6, 4]
    assert ARCHITECTURES["efficientnetv2_b0"].shortened(0.25)["stackwise_num_repeats"] == [1, 1, 1, 1, 2, 2]
    for architecture in ARCHITECTURES.values():
        assert architecture.shortened(1.0) == architecture.arguments
    assert ARCHITECTURES["resnet50_v2"].shortened(0.25)["stackwise_blocks"] == [2, 2, 2, 2]
    model = build("keras_cv/csp_darknet_tiny", (64, 64, 3), depth=0.25)
    whole = shared("keras_cv/csp_darknet_tiny")
    assert model.count_params() < whole.count_params()
    assert [value.shape for value in model.output.values()] == [value.shape for value in whole.output.values()]
    assert type(model).from_config(model.get_config()).count_params() == model.count_params()


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("resnet18_v2", {8: 8, 33: 33}),
        ("densenet121", {8: 32, 28: 32, 33: 33}),
        ("csp_darknet_tiny", {8: 8, 28: 28, 33: 34}),
        ("mit_b0", {28: 64, 64: 64, 65: 96}),
    ],
)
def test_sides_it_cannot_take_become_the_next_it_can(name, sides):
    assert {side: ARCHITECTURES[name].side(side) for side in sides} == sides


def test_enlarging_is_part_of_the_model():
    model = build("keras_cv/csp_darknet_tiny", (28, 33, 3))
    assert model.get_layer("enlarge").output.shape == (None, 28, 34, 3)
    assert np.all(np.isfinite(model(images(1, 28, 33, 3))["embedding"]))
    assert "enlarge" not in [layer.name for layer in shared("keras_cv/csp_darknet_tiny").layers]


def test_shapes_that_cannot_work_are_refused():
    with pytest.raises(RecipeError, match="square images, not 64x96"):
        build("keras_cv/mit_b0", (64, 96, 3))
    with pytest.raises(RecipeError, match="one size"):
        build("keras_cv/csp_darknet_tiny", (None, None, 3))
    open_sides = build("keras_cv/resnet18_v2", (None, None, 1))
    assert [open_sides(images(1, side, side, 1))["embedding"].shape for side in (24, 33)] == [(1, 512)] * 2
