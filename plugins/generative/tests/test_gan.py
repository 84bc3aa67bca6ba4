"""The GAN: losses in closed form, who moves in whose step, and what goes downstream."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_generative.adversarial import discriminator_loss, generator_loss, statistics_kept, told_apart
from kzoo_generative.gan import mean_distance

import kzoo
from kzoo.testing import fakes

OPTIONS = {"latent": 6, "generator_width": 4}


def build(size=16, channels=3, backbone="dcgan_discriminator", backbone_options=None, **options):
    keras.utils.set_random_seed(0)
    if backbone == "dcgan_discriminator":
        backbone_options = {"widths": (8, 16), **(backbone_options or {})}
    network = kzoo.build_backbone(backbone, input_shape=(size, size, channels), **(backbone_options or {}))
    return kzoo.build_method("gan", backbone=network, **{**OPTIONS, **options})


def batch_of(method, count=16, seed=0):
    _, size, _, channels = method.backbone.input_shape
    return fakes.batch_of(method, fakes.images(count, size, channels, seed))


def values(model):
    return [np.array(variable) for variable in model.variables]


def equal(model, before):
    return [np.array_equal(variable, old) for variable, old in zip(model.variables, before, strict=True)]


@pytest.fixture(scope="module")
def method():
    method = build()
    method.compile(keras.optimizers.Adam(2e-4, beta_1=0.5))
    return method


def test_a_discriminator_that_knows_nothing_costs_the_closed_form(method):
    layer = method.discriminator.get_layer("logit")
    before = layer.get_weights()
    layer.set_weights([np.zeros_like(weight) for weight in before])
    for logs in (
        method.test_step(batch_of(method)),
        method.discriminator_step_loss(batch_of(method)) | method.generator_step_loss(batch_of(method)),
    ):
        assert float(logs["discriminator_loss"]) == pytest.approx(1.3863, abs=1e-4)
        assert float(logs["generator_loss"]) == pytest.approx(0.6931, abs=1e-4)
    layer.set_weights(before)
    assert method.chance()["loss"] == pytest.approx(3 * np.log(2))


def test_losses_are_those_of_probabilities():
    real, fake = tf.constant([[1.0], [-2.0]]), tf.constant([[0.5], [3.0]])
    p_real, p_fake = tf.sigmoid(real).numpy(), tf.sigmoid(fake).numpy()
    assert float(discriminator_loss(real, fake)) == pytest.approx(-np.log(p_real).mean() - np.log(1 - p_fake).mean())
    assert float(generator_loss(fake)) == pytest.approx(-np.log(p_fake).mean())
    assert float(told_apart(real, fake)) == 0.25


def test_the_generator_learns_most_where_it_fools_least():
    """The saturating loss, log(1 - D), would have a gradient of -D = -4.5e-5 there."""
    logit = tf.constant([-10.0])
    with tf.GradientTape() as tape:
        tape.watch(logit)
        loss = generator_loss(logit)
    assert float(tape.gradient(loss, logit)[0]) == pytest.approx(-1.0, abs=1e-4)


def test_each_step_moves_one_network_and_leaves_every_bit_of_the_other(method):
    batch = batch_of(method)
    discriminator, generator = values(method.discriminator), values(method.generator)
    method.minimise(batch, loss=method.discriminator_step_loss, groups="discriminator")
    assert all(equal(method.generator, generator))
    assert not any(equal(method.discriminator, discriminator))  # its weights and its moving statistics
    discriminator = values(method.discriminator)
    method.minimise(batch, loss=method.generator_step_loss, groups="generator")
    assert all(equal(method.discriminator, discriminator))
    assert not any(equal(method.generator, generator))


def test_without_that_care_the_other_networks_statistics_move(method):
    images = batch_of(method)["image"]
    before = values(method.backbone)
    with statistics_kept(method.backbone):
        method.discriminator(images, training=True)
    assert all(equal(method.backbone, before))
    method.discriminator(images, training=True)
    assert not all(equal(method.backbone, before))


def test_moving_statistics_are_those_of_real_images(method):
    batch = batch_of(method)
    norm = method.backbone.get_layer("norm_2")
    before = np.array(norm.moving_mean)
    into = keras.Model(method.backbone.input, norm.input)(batch["image"])
    method.discriminator_step_loss(batch)
    np.testing.assert_allclose(
        norm.moving_mean, 0.9 * before + 0.1 * np.mean(into, axis=(0, 1, 2)), rtol=1e-4, atol=1e-6
    )


def test_a_training_step_updates_both_and_logs_both(method):
    before = values(method)
    logs = method.train_step(batch_of(method))
    assert not any(equal(method, before))
    assert float(logs["loss"]) == pytest.approx(float(logs["discriminator_loss"]) + float(logs["generator_loss"]))
    assert len(method.optimizers) == 2
    owned = [id(variable) for group in method.optimizer_groups().values() for variable in group.variables]
    assert sorted(owned) == sorted(id(variable) for variable in method.trainable_variables)


def test_noise_is_uniform_and_generated_images_are_in_range(method):
    images = method.generate(tf.range(64, dtype=tf.int64))
    assert images.shape == (64, 16, 16, 3)
    assert 0 <= float(tf.reduce_min(images)) < float(tf.reduce_max(images)) <= 1
    large = method.generator(100.0 * tf.ones((1, 6)))
    assert -1 <= float(tf.reduce_min(large)) <= float(tf.reduce_max(large)) <= 1
    np.testing.assert_array_equal(images, method.generate(tf.range(64, dtype=tf.int64)))
    assert np.abs(images[0] - images[1]).max() > 0


def test_the_papers_representation_for_images_of_32_pixels_is_28672_wide():
    method = build(32, backbone_options={"widths": (256, 512, 1024)})
    assert method.encoder.output["embedding"].shape == (None, 28672)


def test_the_representation_is_each_map_max_pooled(method):
    image = batch_of(method)["image"]
    outputs = method.encoder(image)
    assert outputs["embedding"].shape == (16, 4 * 4 * 8 + 4 * 4 * 16)
    last, first = outputs["map"].numpy(), outputs["map_1"].numpy()  # 4 x 4 x 16, 8 x 8 x 8
    pooled = first.reshape(16, 4, 2, 4, 2, 8).max(axis=(2, 4))
    expected = np.concatenate([last.reshape(16, -1), pooled.reshape(16, -1)], axis=1)
    np.testing.assert_allclose(outputs["embedding"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("backbone", "size", "channels", "width"),
    [
        ("dcgan_discriminator", 28, 1, 16 * (8 + 16)),
        ("convnet4", 28, 1, 64 * (16 + 16 + 9 + 1)),  # maps of 14, 7, 3 and 1 pixels
        ("vit_tiny", 16, 3, 192),  # no maps: its own embedding
    ],
)
def test_any_backbone_serves(backbone, size, channels, width):
    options = {"depth": 1} if backbone == "vit_tiny" else {}
    method = build(size, channels, backbone, options)
    assert method.encoder.output["embedding"].shape == (None, width)
    assert method.generate(tf.range(2, dtype=tf.int64)).shape == (2, size, size, channels)
    method.compile(keras.optimizers.Adam(2e-4))
    assert np.isfinite(float(method.train_step(batch_of(method))["loss"]))


def test_distances_over_pairs():
    corners = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    assert mean_distance(corners) == pytest.approx((3 + 4 + 5) / 3)
    assert mean_distance(np.ones((8, 4, 4, 1))) == pytest.approx(0.0, abs=1e-6)  # collapsed


def test_the_discriminator_as_a_backbone():
    backbone = kzoo.build_backbone("dcgan_discriminator", input_shape=(64, 64, 3))
    shapes = {name: output.shape[1:] for name, output in backbone.output.items()}
    assert shapes == {
        "map_1": (32, 32, 64),
        "map_2": (16, 16, 128),
        "map_3": (8, 8, 256),
        "map": (4, 4, 512),
        "embedding": (512,),
    }
    first = backbone.get_layer("conv_1")
    assert first.use_bias
    assert not backbone.get_layer("conv_2").use_bias
    assert not any(layer.name == "norm_1" for layer in backbone.layers)
    assert float(np.std(backbone.get_layer("conv_3").kernel)) == pytest.approx(0.02, rel=0.02)
    grey = backbone.get_layer("rescale")(np.array([[0.0, 0.5, 1.0]]))
    np.testing.assert_allclose(grey, [[-1, 0, 1]])
