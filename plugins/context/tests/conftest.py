"""Images for the controls of shortcuts."""

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture(scope="session")
def short_range():
    """short_range(count, size, seed): noise blurred by a pixel; only edges that meet continue each other."""

    def draw(count, size=48, seed=0):
        white = np.random.default_rng(seed).normal(size=(count, size + 4, size + 4, 1)).astype("float32")
        kernel = np.exp(-0.5 * np.square(np.arange(-2, 3)))
        kernel = np.outer(kernel, kernel).astype("float32")[..., None, None]
        soft = tf.nn.conv2d(white, kernel / kernel.sum(), 1, "VALID").numpy()
        return np.uint8(np.clip(127 + 55 * soft / soft.std(), 0, 255))

    return draw
