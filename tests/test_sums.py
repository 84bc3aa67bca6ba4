import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import build_method, sums
from kzoo.testing.tiny import tiny_backbone


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


def test_canary():
    """TensorFlow adds four gradients with one AddN. Where it no longer does, `sums` may have nothing left to do."""
    assert largest_sum() == 4


def test_gradients_are_added_in_order():
    with sums.in_order():
        assert largest_sum() == 0
        assert tf.config.optimizer.get_experimental_options()["arithmetic_optimization"] is False


def test_other_models_of_the_process_keep_their_own_way():
    """After a block, and after a training, gradients of the same process are added as TensorFlow does it."""
    with pytest.raises(ZeroDivisionError), sums.in_order():
        1 / 0  # noqa: B018
    assert largest_sum() == 4
    assert tf.config.optimizer.get_experimental_options().get("arithmetic_optimization", True) is True
    inside = []
    method = build_method("rotation", backbone=tiny_backbone((8, 8, 3)), padding=0)
    method.compile("sgd")
    assert largest_sum() == 4
    look = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: inside.append(largest_sum()))
    method.fit(np.zeros((4, 8, 8, 3), "uint8"), batch_size=4, verbose=0, callbacks=[look])
    assert inside == [0]
    assert largest_sum() == 4


def test_gradients_are_the_same():
    x = tf.constant([0.5, 1.0, 2.0])

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(x * x * x * tf.stop_gradient(x) + tf.gather(x, [0, 0, 2]))
        return tape.gradient(loss, x).numpy()

    before = gradient()
    with sums.in_order():
        np.testing.assert_allclose(gradient(), before, rtol=1e-6)
    np.testing.assert_allclose(before, 3 * np.array([0.5, 1.0, 2.0]) ** 3 + [2, 0, 1], rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_total(count):
    terms = [tf.constant([1.0, -2.0]) * (number + 1) for number in range(count)]
    np.testing.assert_array_equal(sums.total(terms), np.array([1.0, -2.0]) * sum(range(1, count + 1)))
