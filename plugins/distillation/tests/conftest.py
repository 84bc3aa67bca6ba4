"""What tests of several distillation methods ask."""

import pytest

from kzoo.testing import fakes
from kzoo.testing.tiny import tiny_vision_transformer


@pytest.fixture(scope="session")
def masked_method():
    """Builds a method around a tiny vision transformer on patches of 8 pixels, with small heads."""

    def build(name, learning_rate=0.1, **options):
        steps = {"learning_rate": learning_rate, "total_steps": 8, "steps_per_epoch": 4}
        return fakes.build(name, backbone=tiny_vision_transformer, shape=(None, None, 3), **steps, **options)

    return build


@pytest.fixture(scope="session")
def batch_of():
    """A batch that a method's pretext makes of random images."""
    return lambda method, count=4, size=32: fakes.batch_of(method, fakes.images(count, size))
