import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import backprop

from kzoo import sums


@pytest.fixture
def as_tensorflow_does():
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": True})
    pywrap_tfe.TFE_Py_RegisterVSpace(backprop._default_vspace)
    yield
    sums.keep_order()


def largest_sum():
    """Of how many gradients a graph makes one AddN."""

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.exp(x) * tf.sin(x) * tf.sqrt(x) * tf.square(x))
        return tape.gradient(loss, x)

    nodes = gradient.get_concrete_function(tf.TensorSpec([3])).graph.as_graph_def().node
    return max((len(node.input) for node in nodes if node.op == "AddN"), default=0)


def test_canary(as_tensorflow_does):
    """TensorFlow adds four gradients with one AddN. Where it no longer does, `sums` may have nothing left to do."""
    assert largest_sum() == 4


def test_gradients_are_added_in_order(as_tensorflow_does):
    sums.keep_order()
    assert largest_sum() == 0
    assert tf.config.optimizer.get_experimental_options()["arithmetic_optimization"] is False


def test_gradients_are_the_same(as_tensorflow_does):
    x = tf.constant([0.5, 1.0, 2.0])

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(x * x * x * tf.stop_gradient(x) + tf.gather(x, [0, 0, 2]))
        return tape.gradient(loss, x).numpy()

    before = gradient()
    sums.keep_order()
    np.testing.assert_allclose(gradient(), before, rtol=1e-6)
    np.testing.assert_allclose(before, 3 * np.array([0.5, 1.0, 2.0]) ** 3 + [2, 0, 1], rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_total(count):
    terms = [tf.constant([1.0, -2.0]) * (number + 1) for number in range(count)]
    np.testing.assert_array_equal(sums.total(terms), np.array([1.0, -2.0]) * sum(range(1, count + 1)))
