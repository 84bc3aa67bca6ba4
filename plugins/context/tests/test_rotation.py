"""RotNet against its paper."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import augment
from kzoo.errors import OptionsError
from kzoo.testing import fakes
from kzoo.testing.fakes import batch_of


def build(size=16, channels=3, **options):
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("convnet4", input_shape=(size, size, channels))
    return kzoo.build_method("rotation", backbone=backbone, **options)


def noise(count=8, size=16, channels=3):
    return fakes.images(count, size, channels)


def gradients_from_left(count, size=16):
    """Images that brighten from left to right, with some noise: their turn can be seen."""
    ramp = np.tile(np.linspace(20, 200, size)[None, None, :, None], (count, size, 1, 3))
    return (ramp + np.random.default_rng(0).normal(0, 15, ramp.shape)).clip(0, 255).astype("uint8")


def test_every_image_enters_in_four_exact_turns():
    method = build(padding=0, flip=0.0)
    images = noise()
    batch = batch_of(method, images)
    assert batch["image"].shape == (32, 16, 16, 3)
    np.testing.assert_array_equal(batch["turn"], list(range(4)) * 8)
    for i, image in enumerate(images):
        for turn in range(4):
            np.testing.assert_array_equal(batch["image"][4 * i + turn], np.rot90(image, turn) / np.float32(255))


def test_the_border_is_black_where_the_recipe_says_so():
    """White images: what was padded with zeros is black, mirrored it is white."""
    white = np.full((32, 16, 16, 3), 255, "uint8")
    for border, least in (("reflect", 1.0), ("zeros", 0.0)):
        seen = batch_of(build(padding=4, border=border), white)["image"]
        assert float(tf.reduce_min(seen)) == least
    assert {float(value) for value in np.unique(seen)} == {0.0, 1.0}


def test_four_turns_of_an_image_share_their_crop():
    batch = batch_of(build(), noise())["image"].numpy()
    for i in range(8):
        np.testing.assert_array_equal(np.rot90(batch[4 * i + 3]), batch[4 * i])


def test_uniform_logits_cost_log_4():
    method = build()
    logs = method.loss({"logits": tf.zeros((32, 4))}, batch_of(method, noise()))
    assert float(logs["loss"]) == pytest.approx(math.log(4), abs=1e-6)
    assert method.chance() == pytest.approx({"loss": 1.3863, "accuracy": 0.25}, abs=1e-4)


def test_turning_on_to_a_full_turn_is_exact():
    images = noise() / np.float32(255)
    for turn in range(4):
        there = augment.rotate90(images, tf.fill(8, turn))
        np.testing.assert_array_equal(augment.rotate90(there, tf.fill(8, (4 - turn) % 4)), images)


def test_an_earlier_feature_can_go_downstream():
    method = build(feature="map_2")
    images = noise(2) / np.float32(255)
    expected = method.backbone(images, training=False)
    outputs = method.encoder(images, training=False)
    np.testing.assert_allclose(outputs["embedding"], tf.reduce_mean(expected["map_2"], axis=[1, 2]), atol=1e-6)
    np.testing.assert_array_equal(method(images), outputs["embedding"])
    np.testing.assert_array_equal(outputs["map_1"], expected["map_1"])
    last = build()
    assert last.encoder is last.backbone
    # the turn is still told from the last layer
    logits = method.forward({"image": images}, training=False)["logits"]
    np.testing.assert_allclose(logits, method.classifier(expected["embedding"]), atol=1e-6)
    with pytest.raises(OptionsError, match=r"rotation: feature: convnet4 has embedding, map.*Received: map_9"):
        build(feature="map_9")


def test_answers_turn_back_by_what_was_said():
    method = build(padding=0, flip=0.0)
    images = noise(4)
    batch = batch_of(method, images)
    true = [1, 2, 3, 0]
    said = [1, 2, 3, 2]  # the last is wrong
    method.forward = lambda batch, training: {"logits": tf.one_hot(said, 4)}
    answers = method.visualise({}, batch)
    for i in range(4):
        image = images[i] / np.float32(255)
        np.testing.assert_array_equal(answers["turned"][i], np.rot90(image, true[i]))
        np.testing.assert_array_equal(answers["turned back"][i], np.rot90(image, true[i] - said[i]))
    assert answers["answer"] == ["90 degrees", "180 degrees", "270 degrees", "180 degrees,\nnot 0"]


def test_gradient_reaches_everything():
    method = build()
    method.compile(keras.optimizers.SGD(0.1))
    before = [np.array(v) for v in method.trainable_variables]
    method.train_step(batch_of(method, noise()))
    assert all(not np.array_equal(v, old) for v, old in zip(method.trainable_variables, before, strict=True))


def test_learns_turns_that_can_be_seen_and_guesses_those_that_cannot():
    y, x = np.mgrid[-7.5:8.5, -7.5:8.5]
    radii = np.random.default_rng(1).uniform(0.3, 1.0, (32, 1, 1, 1))
    radial = (127 + 127 * np.cos(radii * np.hypot(x, y)[None, :, :, None])).astype("uint8").repeat(3, -1)
    accuracy = {}
    for name, images in {"ramps": gradients_from_left(32), "radial": radial}.items():
        method = build(padding=0, flip=0.0)
        method.compile(keras.optimizers.Adam(3e-3))
        accuracy[name] = method.fit(images, batch_size=16, epochs=10, verbose=0).history["accuracy"][-1]
    assert accuracy["ramps"] > 0.9
    # the four turns of a radial image are one image: whatever is answered, one of four is right
    assert accuracy["radial"] == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(("size", "channels", "crop"), [(28, 1, "pad"), (32, 3, "resized")])
def test_other_sizes_and_grey(size, channels, crop):
    method = build(size, channels, crop=crop)
    batch = batch_of(method, noise(2, size, channels))
    assert batch["image"].shape == (8, size, size, channels)
    assert method.forward(batch, training=False)["logits"].shape == (8, 4)
