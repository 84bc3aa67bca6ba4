"""Colorization: the colours, their weights, the loss in closed form, and what the network sees."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_generative.color_bins import BINS, prior, rebalancing
from kzoo_generative.colorization import annealed_mean, soft_encode

import kzoo
from kzoo.color import lab_to_rgb, rgb_to_lab
from kzoo.errors import OptionsError, RecipeError
from kzoo.recipe.load import load
from kzoo.testing.fakes import batch_of

COLOURS = 313


def build(size=16, **options):
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("convnet4", input_shape=(size, size, 3), width=16)
    options = {"stride": 4, "head": (16,), "head_kernel": 1, **options}
    return kzoo.build_method("colorization", backbone=backbone, **options)


def colourful(count=8, size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype("uint8")


@pytest.fixture(scope="module")
def method():
    return build()


def test_the_conversion_is_that_of_sRGB_under_D65():
    white, red = rgb_to_lab(tf.constant([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])).numpy()
    np.testing.assert_allclose(white, [100, 0, 0], atol=0.01)
    np.testing.assert_allclose(red, [53.24, 80.09, 67.20], atol=0.05)


def test_there_are_313_colours_on_a_grid_of_ten():
    assert BINS.shape == (COLOURS, 2)
    assert len({tuple(colour) for colour in BINS.tolist()}) == COLOURS
    assert not (BINS % 10).any()
    assert BINS.tolist() == sorted(BINS.tolist())  # by a, then b: the order of the prior


def test_every_colour_of_sRGB_has_its_grid_point_among_them():
    steps = np.linspace(0, 1, 52)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    nearest = np.unique(np.rint(rgb_to_lab(tf.constant(cube)).numpy()[:, 1:] / 10) * 10, axis=0)
    assert {tuple(colour) for colour in nearest.tolist()} <= {tuple(colour) for colour in BINS.tolist()}
    assert len(nearest) > 240  # of the 261 that sRGB has; the rest lie just beyond


def test_the_soft_code():
    ab = tf.random.Generator.from_seed(0).uniform((64, 2), -60, 60)
    for neighbours in (1, 5, 10):
        bins, share = soft_encode(ab, neighbours)
        assert bins.shape == share.shape == (64, neighbours)
        np.testing.assert_allclose(tf.reduce_sum(share, axis=-1), np.ones(64), rtol=1e-5)
        distances = np.linalg.norm(ab.numpy()[:, None] - BINS, axis=-1)
        np.testing.assert_array_equal(bins[:, 0], distances.argmin(axis=1))
        assert (share.numpy()[:, 0] == share.numpy().max(axis=1)).all()
    # at a colour: its neighbours in the grid are 10 away, so weigh exp(-100 / 50) of it
    bins, share = soft_encode(tf.constant([[10.0, 20.0]]), 5)
    assert BINS[bins[0, 0]].tolist() == [10, 20]
    np.testing.assert_allclose(share[0, 1:] / share[0, 0], np.full(4, np.exp(-2.0)), rtol=1e-5)


def test_the_prior_is_a_distribution_over_all_colours():
    assert prior().shape == (COLOURS,)
    assert prior().sum() == pytest.approx(1.0)
    assert prior().min() > 0
    assert BINS[prior().argmax()].tolist() == [0, 0]  # photographs are mostly grey


def test_the_prior_is_what_its_script_measures():
    path = Path(__file__).parents[1] / "scripts" / "color_prior.py"
    spec = importlib.util.spec_from_file_location("color_prior", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    np.testing.assert_allclose(script.prior(), prior(), rtol=1e-4)


@pytest.mark.parametrize("mix", [0.25, 0.5, 1.0])
def test_rebalancing_keeps_the_mean_weight_at_one(mix):
    weight = rebalancing(mix)
    assert np.sum(prior() * weight) == pytest.approx(1.0)
    bound = ((1 - mix) * prior().max() + mix / COLOURS) / (mix / COLOURS)
    assert weight.max() / weight.min() <= bound * (1 + 1e-9)
    if mix == 1.0:
        np.testing.assert_allclose(weight, np.ones(COLOURS))
    else:
        assert weight.argmin() == prior().argmax()
    if mix == 0.5:
        assert bound == pytest.approx((prior().max() + 1 / COLOURS) * COLOURS)


def test_the_target_is_every_strided_pixel(method):
    pictures = colourful()
    batch = batch_of(build(flip=0.0), pictures)
    lab = rgb_to_lab(tf.constant(pictures / 255.0)).numpy()
    np.testing.assert_allclose(batch["ab"], lab[:, ::4, ::4, 1:].reshape(8, 16, 2), atol=1e-2)
    np.testing.assert_allclose(batch["lightness"], lab[..., :1] / 100, atol=1e-4)


def test_all_colours_equally_likely_costs_log_313(method):
    batch = batch_of(method, colourful())
    logs = method.loss({"logits": tf.zeros((8, 1, 1, COLOURS))}, batch)
    assert float(logs["cross_entropy"]) == pytest.approx(5.7462, abs=1e-4)
    assert method.chance()["cross_entropy"] == pytest.approx(5.7462, abs=1e-4)
    bins, _ = soft_encode(batch["ab"], 5)
    mean_weight = rebalancing(0.5)[bins.numpy()[..., 0]].mean()
    assert float(logs["loss"]) == pytest.approx(mean_weight * np.log(COLOURS), rel=1e-4)


def test_the_marginal_is_the_cheapest_constant_answer(method):
    batch = batch_of(method, colourful())
    bins, share = (x.numpy() for x in soft_encode(batch["ab"], 5))
    weight = rebalancing(0.5)[bins[..., 0]]
    mass = np.bincount(bins.ravel(), (weight[..., None] * share).ravel(), minlength=COLOURS)
    best = np.log(mass / mass.sum() + 1e-12)
    cost = {}
    for name, answer in {"best": best, "flatter": 0.9 * best, "sharper": 1.1 * best}.items():
        logits = tf.constant(np.broadcast_to(answer, (8, 4, 4, COLOURS)).astype("float32"))
        logs = method.loss({"logits": logits}, batch)
        cost[name] = float(logs["loss"])
        assert float(logs["marginal_loss"]) == pytest.approx(cost["best"], rel=1e-4)
    assert cost["best"] < min(cost["flatter"], cost["sharper"])


def test_grey_images_teach_nothing(method):
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 1)), 3, axis=-1).astype("uint8")
    for pictures, teaches in ((grey, False), (colourful(), True)):
        batch = batch_of(method, pictures)
        with tf.GradientTape() as tape:
            logs = method.loss(method.forward(batch, training=True), batch)
        gradients = tape.gradient(logs["loss"], method.trainable_variables)
        moved = [float(tf.reduce_max(tf.abs(gradient))) > 0 for gradient in gradients]
        assert any(moved) == teaches
        assert (float(logs["loss"]) > 0) == teaches
    mixed = batch_of(method, np.concatenate([grey[:4], colourful()[:4]]))
    weight = method.weight(mixed["ab"], soft_encode(mixed["ab"], 5)[0], tf.float32).numpy()
    assert (weight[:4] == 0).all()
    assert (weight[4:] > 0).all()


def test_colours_of_the_same_lightness_are_the_same_to_the_network(method):
    """The same L, and a and b swapped: other colours, all within sRGB because they are pale."""
    rng = np.random.default_rng(0)
    lab = np.concatenate([rng.uniform(40, 60, (4, 16, 16, 1)), rng.uniform(-10, 10, (4, 16, 16, 2))], axis=-1)
    one = lab_to_rgb(tf.constant(lab, tf.float32))
    other = lab_to_rgb(tf.constant(lab[..., [0, 2, 1]], tf.float32))
    assert np.abs(one - other).max() > 0.05
    np.testing.assert_allclose(method(one), method(other), atol=1e-4)
    darker = lab_to_rgb(tf.constant(lab * [0.5, 1, 1], tf.float32))
    assert np.abs(method(one) - method(darker)).max() > 1e-2


def test_the_backbone_is_trained_on_what_the_encoder_gives_it(method):
    pictures = colourful()
    batch = batch_of(build(flip=0.0), pictures)
    direct = method.backbone(tf.repeat(batch["lightness"], 3, axis=-1))["embedding"]
    np.testing.assert_allclose(method.encoder(pictures / np.float32(255))["embedding"], direct, atol=1e-4)


def test_the_annealed_mean():
    one = annealed_mean(tf.one_hot([200], COLOURS) * 100)
    np.testing.assert_allclose(one, BINS[[200]], atol=1e-3)
    two = annealed_mean((tf.one_hot([100], COLOURS) + tf.one_hot([102], COLOURS)) * 100)
    np.testing.assert_allclose(two, BINS[[100, 102]].mean(axis=0, keepdims=True), atol=1e-3)
    # p = 1/3 and 2/3 become 1 and 2^(1/0.38), in proportion
    logits = tf.math.log((tf.one_hot([100], COLOURS) + 2 * tf.one_hot([102], COLOURS)) / 3 + 1e-30)
    share = 2 ** (1 / 0.38) / (1 + 2 ** (1 / 0.38))
    np.testing.assert_allclose(annealed_mean(logits), [BINS[100] * (1 - share) + BINS[102] * share], atol=1e-2)


def test_colouring_keeps_the_lightness(method):
    """A colour of the head's bias alone, a = b = 10, is within sRGB at medium lightness."""
    layer = method.head.get_layer("colours")
    before = layer.get_weights()
    number = BINS.tolist().index([10.0, 10.0])
    layer.set_weights([np.zeros_like(before[0]), 100 * np.eye(COLOURS)[number].astype("float32")])
    grey = np.random.default_rng(0).uniform(0.4, 0.6, (2, 16, 16, 1)).astype("float32").repeat(3, axis=-1)
    lab = rgb_to_lab(method.colorize(grey)).numpy()
    np.testing.assert_allclose(lab[..., 0], rgb_to_lab(tf.constant(grey))[..., 0], atol=0.1)
    np.testing.assert_allclose(lab[..., 1:], np.full((2, 16, 16, 2), 10.0), atol=0.2)
    layer.set_weights(before)


def test_grey_images_are_refused(tmp_path):
    with pytest.raises(OptionsError, match="colorization: needs images of 3 channel"):
        kzoo.build_method("colorization", kzoo.build_backbone("convnet4", input_shape=(16, 16, 1)))
    recipe = tmp_path / "grey.yaml"
    recipe.write_text(
        "name: grey\ndata: {name: fashion_mnist}\nbackbone: {name: small_resnet}\nmethod: {name: colorization}\n"
    )
    with pytest.raises(RecipeError, match=r"'fashion_mnist' has 1 channel.*'colorization' needs 3"):
        load(recipe)


def test_learns_below_the_marginal():
    """Light pictures are reddish and dark ones bluish: the lightness tells the colour, no constant can."""
    light, dark = [230, 170, 150], [30, 40, 90]
    pictures = np.array([light, dark] * 16, "uint8")[:, None, None, :].repeat(16, 1).repeat(16, 2)
    method = build()
    method.compile(keras.optimizers.Adam(1e-2))
    history = method.fit(pictures, batch_size=32, epochs=40, verbose=0).history
    assert history["cross_entropy"][0] > 3
    assert history["loss"][-1] < 0.75 * history["marginal_loss"][-1]
    assert history["accuracy"][-1] == 1.0
