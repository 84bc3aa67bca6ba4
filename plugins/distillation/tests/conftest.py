"""What tests of several distillation methods ask."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.testing.tiny import tiny_vision_transformer


@pytest.fixture(scope="session")
def masked_method():
    """Builds a method around a tiny vision transformer on patches of 8 pixels, with small heads."""

    def build(name, learning_rate=0.1, **options):
        keras.utils.set_random_seed(0)
        method = kzoo.build_method(name, tiny_vision_transformer((None, None, 3)), **options)
        method.compile(keras.optimizers.SGD(learning_rate), total_steps=8, steps_per_epoch=4)
        return method

    return build


@pytest.fixture(scope="session")
def batch_of():
    """A batch that a method's pretext makes of random images."""

    def batch(method, count=4, size=32):
        pictures = np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype("uint8")
        ids = tf.range(count, dtype=tf.int64)
        return method.transform({"image": tf.constant(pictures), "id": ids}, ids)

    return batch
