"""What kzoo takes from Keras and TensorFlow that is not public: in one place, each with a test of why it is needed.

The overrides that let `fit` run over several workers have theirs in tests/test_workers.py, where stock Keras must still
fail; how a tape adds gradients has its own in tests/test_sums.py, where TensorFlow must still use one AddN.
"""

import re
from pathlib import Path

import keras
import tensorflow as tf

from kzoo.system import private

ROOT = Path(__file__).parents[1]
PRIVATE = re.compile(r"tensorflow\.python|keras\.src|_flatten_layers|_maybe_symbolic_build|_make_function")
OWNERS = {"kzoo/system/private.py", "kzoo/plugins/loading.py"}  # the second extends a module of Keras, and says so


def test_private_names_are_in_one_place():
    shipped = [*(ROOT / "kzoo").rglob("*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
    users = {path.relative_to(ROOT).as_posix() for path in shipped if PRIVATE.search(path.read_text())}
    assert users == OWNERS


def test_layers_inside_models_and_layers_are_found():
    """`Model.layers` names the outer ones alone; with a public name for all of them, `every_layer` may go."""
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="deep")], name="inner")
    model = keras.Sequential([keras.Input((2,)), inner], name="outer")
    assert "deep" not in [layer.name for layer in model.layers]
    assert {"inner", "deep"} <= {layer.name for layer in private.every_layer(model)}
    assert not hasattr(keras.Model, "flatten_layers")


def test_operations_with_side_effects_are_told_from_those_that_compute():
    """`tf.raw_ops` does not say it; with a public name that does, `operation` may go."""
    assert private.operation("WriteFile").is_stateful
    assert not private.operation("MatMul").is_stateful
    assert private.operation("NoSuchOperation") is None
    assert not hasattr(tf.raw_ops.WriteFile, "is_stateful")


def test_whether_tensorflow_is_in_use_is_known():
    """Asking by a public name, such as for the logical devices, would itself be the first use."""
    tf.config.list_logical_devices()
    assert private.in_use()


def test_what_a_function_captured_becomes_constants():
    """Converters want a graph without variables; with a public name that makes one, `with_constants` may go."""
    variable, constant = tf.Variable([1.0, 2.0]), tf.constant([0.5, 0.5])
    spec = tf.TensorSpec([None, 2], tf.float32)
    function = tf.function(lambda x: x * variable + constant, input_signature=[spec]).get_concrete_function()
    assert len(function.inputs) == 3
    frozen = private.with_constants(function)
    assert [one.shape.as_list() for one in frozen.inputs] == [[None, 2]]
    [answer] = frozen(tf.ones([1, 2]))
    assert answer.numpy().tolist() == [[1.5, 2.5]]
