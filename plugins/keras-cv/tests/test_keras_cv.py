import functools
import importlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_keras_cv import plugin
from kzoo_keras_cv.backbones import ARCHITECTURES

from kzoo.errors import RecipeError
from kzoo.layers import BatchNormalization

SPECS = {spec.name: spec for spec in plugin.kzoo_backbones()}


def build(name, input_shape):
    spec = SPECS[name]
    module, _, function = spec.target.partition(":")
    return getattr(importlib.import_module(module), function)(input_shape, spec.options())


@functools.cache
def shared(name):
    """The backbone for 64x64x3, built once: these networks take seconds to build."""
    return build(name, (64, 64, 3))


def images(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype("float32")


def test_every_architecture_has_a_record():
    assert {name.removeprefix("keras_cv/") for name in SPECS} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 64, 3)])
def test_outputs_and_shapes_are_those_of_the_record(name, shape):
    model = shared(name) if shape == (64, 64, 3) else build(name, shape)
    outputs = model(images(2, *shape))
    assert model.input_shape == (None, *shape)
    assert set(outputs) == set(SPECS[name].offers)
    for key, value in outputs.items():
        assert tuple(value.shape[1:]) == model.output[key].shape[1:]
    np.testing.assert_allclose(outputs["embedding"], np.mean(outputs["map"], axis=(1, 2)), rtol=1e-4, atol=1e-5)
    maps = [outputs[f"map_{level}"] for level in range(1, len(outputs) - 1)]
    sides = [value.shape[1] for value in (*maps, outputs["map"])]
    assert sides == sorted(sides, reverse=True)


@pytest.mark.parametrize("name", SPECS)
def test_gradient_reaches_every_trainable_weight(name):
    model = shared(name)
    with tf.GradientTape() as tape:
        outputs = model(images(4, 64, 64, 3), training=True)
        noise = tf.random.stateless_normal(tf.shape(outputs["map"]), seed=[0, 1])
        loss = tf.reduce_sum(outputs["map"] * noise) + tf.reduce_sum(tf.square(outputs["embedding"]))
    variables = [variable.value for variable in model.trainable_variables]
    for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, variables), strict=True):
        assert gradient is not None, variable.path
        # Mix Transformer: a bias of the keys shifts all logits of a query alike, and softmax takes that away
        assert np.any(np.array(gradient) != 0) or variable.path.endswith("bias"), variable.path


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
        norms = [x for x in other._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
        assert {type(norm) for norm in norms} <= {BatchNormalization}
        assert {norm.momentum for norm in norms} <= {0.9}
        assert norms or name == "keras_cv/mit_b0"


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


@pytest.mark.parametrize("name", ["keras_cv/mit_b0", "keras_cv/efficientnetv2_b0"])
def test_nothing_is_random_in_training(name):
    """Drop path would draw alike on all replicas, so it is off: two training passes agree."""
    model = shared(name)
    x = images(2, 64, 64, 3)
    np.testing.assert_array_equal(model(x, training=True)["map"], model(x, training=True)["map"])


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


def test_listing_imports_neither_tensorflow_nor_keras_cv():
    code = (
        "import sys; from kzoo_keras_cv import plugin; assert len(list(plugin.kzoo_backbones())) == 6; "
        "print([name for name in ('tensorflow', 'keras', 'keras_cv') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
