"""`supervised` as fine-tuning: a linear head leaves the backbone alone, parts near the input learn more slowly."""

import numpy as np
import pytest
import tensorflow as tf

from kzoo.specs import DataFacts
from kzoo.testing import fakes

CLASSES = ("ant", "bee", "cow", "dog")


def build(**options):
    facts = DataFacts(classes=CLASSES)
    return fakes.build("supervised", data=facts, learning_rate=0.1, total_steps=8, steps_per_epoch=4, **options)


def moved(method):
    """How far one step moves each trainable weight of the backbone, and then the head's; the rest must not move."""
    ids = tf.range(8, dtype=tf.int64)
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype("uint8")
    batch = method.transform({"image": tf.constant(images), "id": ids, "label": ids % 4}, ids)
    before = [weight.numpy() for weight in method.weights]
    method.train_step(batch)
    return {w.path: w.numpy() - old for w, old in zip(method.weights, before, strict=True)}


@pytest.fixture(scope="module")
def plain():
    return moved(build())


def test_a_linear_head_leaves_the_backbone_as_it_is(plain):
    method = build(backbone_rate=0)
    now = moved(method)
    backbone = [weight.path for weight in method.backbone.weights]
    assert any(plain[path].any() for path in backbone)
    assert not any(now[path].any() for path in backbone)  # moving statistics neither
    assert all(now[weight.path].any() for weight in method.class_head.weights)


def test_parts_near_the_input_learn_more_slowly(plain):
    method = build(layer_decay=0.5, backbone_rate=0.25)
    groups = method.optimizer_groups()
    scales = [group.lr_scale for name, group in groups.items() if name != "head"]
    assert len(scales) > 1
    assert scales == [0.25 * 0.5**depth for depth in reversed(range(len(scales)))]
    held = [variable.path for group in groups.values() for variable in group.variables]
    assert sorted(held) == sorted(variable.path for variable in method.trainable_variables)
    now = moved(method)
    for group in groups.values():
        for variable in group.variables:
            np.testing.assert_allclose(now[variable.path], group.lr_scale * plain[variable.path], rtol=1e-3, atol=1e-7)
