"""Optimizers and schedules against updates computed by hand."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import optimizers
from kzoo.recipe.schema import Optimizer


def steps(optimizer, start, gradients):
    variable = keras.Variable(np.array(start, "float32"))
    optimizer.build([variable])
    seen = []
    for gradient in gradients:
        optimizer.apply([np.array(gradient, "float32")], [variable])
        seen.append(np.array(variable))
    return seen


def test_coupled_decay_goes_through_the_momentum():
    """Gradient 0, rate 0.1, decay 0.5, momentum 0.9, weight 1: 0.95 then 0.8575 (decoupled would give 0.9025)."""
    seen = steps(optimizers.SGD(0.1, momentum=0.9, l2=0.5), [[1.0]], [[[0.0]], [[0.0]]])
    np.testing.assert_allclose(np.ravel(seen), [0.95, 0.8575], rtol=1e-6)


def test_decoupled_decay_does_not():
    settings = Optimizer(
        name="sgd", learning_rate=0.1, weight_decay=0.5, decay="decoupled", schedule="constant", per=None
    )
    made = optimizers.build(settings, batch_size=1, steps_per_epoch=10, epochs=1)
    seen = steps(made, [[1.0]], [[[0.0]], [[0.0]]])
    np.testing.assert_allclose(np.ravel(seen), [0.95, 0.9025], rtol=1e-6)


@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.Adam, optimizers.LARS])
def test_biases_never_decay(kind):
    seen = steps(kind(0.1, l2=0.5), [1.0], [[0.0], [0.0]])
    np.testing.assert_array_equal(np.ravel(seen), [1.0, 1.0])


def test_decoupled_decay_leaves_biases_alone():
    settings = Optimizer(name="adamw", learning_rate=0.1, weight_decay=0.5, schedule="constant", per=None)
    made = optimizers.build(settings, batch_size=1, steps_per_epoch=10, epochs=1)
    kernel, bias = keras.Variable(np.ones((1, 1), "float32")), keras.Variable(np.ones(1, "float32"))
    optimizers.without_decay(made, [kernel, bias])
    made.build([kernel, bias])
    made.apply([np.zeros((1, 1), "float32"), np.zeros(1, "float32")], [kernel, bias])
    assert float(kernel[0, 0]) == pytest.approx(0.95)
    assert float(bias[0]) == 1.0


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars"])
def test_decay_scope_says_whether_biases_decay(name):
    """Gradient 0, rate 0.1, decay 0.5, one step: a bias of 1 stays, or decays as the kernel does (but for LARS)."""
    moved = {}
    for scope in ("weights", "all"):
        settings = Optimizer(
            name=name,
            learning_rate=0.1,
            weight_decay=0.5,
            schedule="constant",
            decay_scope=scope,
            trust_coefficient=1.0,
        )
        made = optimizers.build(settings, batch_size=1, steps_per_epoch=10, epochs=1)
        made = optimizers.another(made, 1.0)  # the scope is part of the configuration
        kernel, bias = keras.Variable(np.ones((1, 1), "float32")), keras.Variable(np.ones(1, "float32"))
        optimizers.without_decay(made, [kernel, bias])
        made.build([kernel, bias])
        made.apply([np.zeros((1, 1), "float32"), np.zeros(1, "float32")], [kernel, bias])
        moved[scope] = float(kernel[0, 0]), float(bias[0])
    kernel, bias = moved["all"]
    assert moved["weights"] == (kernel, 1.0)
    # Adam divides the gradient by its own size; LARS takes a weight's norm for it, and a bias' gradient as it is
    expected = {"sgd": (0.95, 0.95), "adam": (0.9, 0.9), "adamw": (0.95, 0.95), "lars": (0.9, 0.95)}[name]
    assert (kernel, bias) == pytest.approx(expected, abs=1e-5)


def test_lars_by_hand():
    """v = (3, 4), g = (1, 0), decay 0.1: g' = (1.3, 0.4); trust = 0.001 * 5 / |g'|; two steps of momentum 0.9."""
    weight, momentum = np.array([[3.0, 4.0]]), np.zeros((1, 2))
    expected = []
    for _ in range(2):
        gradient = np.array([[1.0, 0.0]]) + 0.1 * weight
        momentum = 0.9 * momentum + 1e-3 * np.linalg.norm(weight) / np.linalg.norm(gradient) * gradient
        weight = weight - 2.0 * momentum
        expected.append(weight)
    seen = steps(optimizers.LARS(2.0, l2=0.1), [[3.0, 4.0]], [[[1.0, 0.0]]] * 2)
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_lars_adapts_small_weights_and_gradients_too():
    """Norms 0.5 and 0.1: trust = 0.001 * 0.5 / 0.1, times the rate of 2 and the gradient."""
    seen = steps(optimizers.LARS(2.0), [[0.3, 0.4]], [[[0.06, 0.08]]])
    np.testing.assert_allclose(seen[0], [[0.2994, 0.3992]], rtol=1e-6)


def test_lars_does_not_adapt_biases_nor_zero_weights():
    assert steps(optimizers.LARS(0.5), [3.0], [[1.0]])[0][0] == pytest.approx(2.5)
    np.testing.assert_allclose(steps(optimizers.LARS(0.5), [[0.0]], [[[1.0]]])[0], [[-0.5]])


def rates(at, **settings):
    made = optimizers.build(
        Optimizer(**{"learning_rate": 0.5, "per": None, **settings}), batch_size=512, steps_per_epoch=10, epochs=10
    )
    return [float(made.learning_rate if step is None else made._learning_rate(step)) for step in at]


def test_cosine_after_warm_up():
    first, last_of_warm_up, halfway, end = rates([0, 9, 55, 100], schedule="cosine", warmup_epochs=1)
    assert first == pytest.approx(0.05)
    assert last_of_warm_up == pytest.approx(0.5)
    assert halfway == pytest.approx(0.25, abs=1e-6)
    assert end == pytest.approx(0.0, abs=1e-7)


def test_cosine_ends_at_its_floor():
    assert rates([100], schedule="cosine", final=0.1)[0] == pytest.approx(0.05)
    quarter = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))
    assert rates([25], schedule="cosine", final=0.1)[0] == pytest.approx(0.5 * quarter)


def test_steps_drop_at_their_epochs():
    seen = rates([59, 60, 80], schedule="step", milestones=(6, 8), drop=0.1)
    np.testing.assert_allclose(seen, [0.5, 0.05, 0.005], rtol=1e-6)


def test_rate_grows_with_the_batch():
    assert rates([0], schedule="constant", per=256)[0] == pytest.approx(1.0)


def test_a_learning_rate_may_be_a_schedule_of_its_own():
    """From 0 to 0.5 in two epochs of ten steps, the first step a twentieth of it; then a line to 0.1, per 256."""
    rate = {"schedule": "warmup", "epochs": 2, "then": {"schedule": "linear", "start": 0.5, "end": 0.1}}
    np.testing.assert_allclose(rates([0, 19, 60, 100], learning_rate=rate, per=256), [0.05, 1.0, 0.6, 0.2], rtol=1e-6)


@pytest.mark.parametrize(("name", "decay"), [("sgd", "coupled"), ("adamw", None), ("lars", None)])
def test_a_weight_decay_that_changes_is_at_each_step_the_constant_of_that_step(name, decay):
    """Cosine from 0.2 to 0.6 in two epochs of one step: 0.2, then 0.4. The same steps with these as constants agree."""

    def run(weight_decay, at):
        settings = Optimizer(name=name, learning_rate=0.5, schedule="constant", decay=decay, weight_decay=weight_decay)
        made = optimizers.build(settings, batch_size=1, steps_per_epoch=1, epochs=2)
        again = type(made).from_config(made.get_config())
        weight, bias = tf.Variable([[3.0, 4.0]]), tf.Variable([1.0])
        optimizers.without_decay(again, [weight, bias])
        again.build([weight, bias])
        again.iterations.assign(at)
        again.apply([tf.constant([[1.0, 0.0]]), tf.constant([0.5])], [weight, bias])
        return [*weight.numpy().ravel(), *bias.numpy()]

    changing = {"schedule": "cosine", "start": 0.2, "end": 0.6}
    for at, constant in ((0, 0.2), (1, 0.4)):
        np.testing.assert_allclose(run(changing, at), run(constant, at), rtol=1e-6)
    assert run(changing, 0) != pytest.approx(run(changing, 1))


def test_a_group_with_its_own_decay_keeps_no_schedule_of_the_recipe():
    settings = Optimizer(name="adamw", learning_rate=0.5, weight_decay={"schedule": "linear", "start": 0.1, "end": 0.2})
    made = optimizers.build(settings, batch_size=1, steps_per_epoch=1, epochs=2)
    other = optimizers.another(made, 1.0, weight_decay=0.0)
    assert (bool(made.decoupled), other.decoupled, other.weight_decay) == (True, 0.0, 0.0)
