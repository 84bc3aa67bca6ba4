"""The context encoder: what is hidden, what it costs, and who moves in whose step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_generative.context_encoder import ContextEncoder, irregular_regions
from kzoo_generative.options import ContextEncoderOptions

import kzoo
from kzoo.errors import OptionsError
from kzoo.testing.fakes import batch_of

OPTIONS = {"overlap": 1, "bottleneck": 16, "decoder_width": 4, "adversary_width": 4}


def build(size=16, channels=3, **options):
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("convnet4", input_shape=(size, size, channels), width=8)
    return kzoo.build_method("context_encoder", backbone=backbone, **{**OPTIONS, **options})


def pictures_of(count, size, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels)).astype("uint8")


def values(model):
    return [np.array(variable) for variable in model.variables]


def equal(model, before):
    return [np.array_equal(variable, old) for variable, old in zip(model.variables, before, strict=True)]


@pytest.fixture(scope="module")
def method():
    method = build(flip=0.0)
    method.compile(keras.optimizers.Adam(2e-4, beta_1=0.5))
    return method


@pytest.fixture(scope="module")
def random_region():
    return build(flip=0.0, region="random", overlap=0)


@pytest.mark.parametrize("fixture", ["method", "random_region"])
def test_what_was_in_the_hole_makes_no_difference(fixture, request):
    method = request.getfixturevalue(fixture)
    pictures = pictures_of(8, 16, 3)
    batch = batch_of(method, pictures)
    hidden = batch["hidden"].numpy().astype(bool)
    others = np.where(hidden, pictures_of(8, 16, 3, seed=1), pictures)
    again = batch_of(method, others)
    for outputs in zip(method.encoder(batch["image"]).values(), method.encoder(again["image"]).values(), strict=True):
        np.testing.assert_array_equal(*outputs)
    assert np.abs(batch["target"] - again["target"]).max() > 0.5  # and it was changed
    around = np.where(hidden, pictures, pictures_of(8, 16, 3, seed=1))
    assert np.abs(method(batch_of(method, around)["image"]) - method(batch["image"])).max() > 0


def test_the_hole_has_the_authors_colours(method):
    batch = batch_of(method, pictures_of(4, 16, 3))
    hole = batch["image"].numpy()[:, 5:11, 5:11]
    in_their_range = np.array([2 * 117 / 255 - 1, 2 * 104 / 255 - 1, 2 * 123 / 255 - 1])
    np.testing.assert_allclose(2 * hole - 1, np.broadcast_to(in_their_range, hole.shape), rtol=1e-5)
    np.testing.assert_array_equal(batch["image"][:, :5], batch["target"][:, :5])  # a rim of one pixel is visible
    assert batch["hidden"].numpy().sum(axis=(1, 2, 3)).tolist() == [36] * 4


@pytest.mark.parametrize(
    ("size", "overlap", "hole"), [(128, 4, 56), (128, 7, 50), (64, 0, 32), (28, 1, 12), (29, 0, 14)]
)
def test_the_centre(size, overlap, hole):
    options = ContextEncoderOptions(overlap=overlap)
    raw = {"image": tf.zeros((1, size, size, 1), tf.uint8), "id": tf.zeros(1, tf.int64)}
    hidden = ContextEncoder.pretext(raw, tf.zeros(1, tf.int64), options)["hidden"].numpy()[0, :, :, 0]
    assert hidden.sum() == hole**2
    rows = np.flatnonzero(hidden.any(axis=1))
    assert rows[-1] - rows[0] + 1 == hole
    assert abs(rows[0] - (size - 1 - rows[-1])) <= 1  # in the middle, as near as parity lets it


def test_the_rim_weighs_tenfold(method):
    batch = batch_of(method, pictures_of(4, 16, 3))
    target, hidden, region = method.asked(batch, tf.float32)
    assert target.shape == (4, 8, 8, 3)
    assert hidden.numpy().sum() == 4 * 36
    assert region.numpy().sum() == 4 * 64
    painted = target + 0.1
    with tf.GradientTape() as tape:
        tape.watch(painted)
        loss = method.joint_loss(batch, painted, None)["loss"]
    gradient = np.abs(tape.gradient(loss, painted).numpy())
    rim, inside = gradient[:, 0, :], gradient[:, 1:-1, 1:-1]
    np.testing.assert_allclose(inside, 2 * 0.1 / target.numpy().size, rtol=1e-3)
    np.testing.assert_allclose(rim, 10 * inside.mean(), rtol=1e-3)


def test_painting_the_mean_costs_the_variance():
    method = build(overlap=0, reconstruction=1.0, flip=0.0)
    batch = batch_of(method, pictures_of(16, 16, 3))
    centre = 2 * batch["target"].numpy()[:, 4:12, 4:12] - 1
    mean = np.broadcast_to(centre.mean(axis=0), centre.shape)
    logs = method.joint_loss(batch, tf.constant(mean), None)
    assert float(logs["loss"]) == pytest.approx(centre.var(axis=0).mean(), rel=1e-5)
    assert float(logs["variance"]) == pytest.approx(centre.var(axis=(0, 1, 2)).mean(), rel=1e-5)


def test_the_losses_are_mixed(method):
    batch = batch_of(method, pictures_of(4, 16, 3))
    painted = method.asked(batch, tf.float32)[0]
    logs = method.joint_loss(batch, painted, tf.zeros((4, 1)))
    assert float(logs["reconstruction"]) == 0
    assert float(logs["loss"]) == pytest.approx(0.001 * np.log(2), rel=1e-3)
    assert method.chance() == pytest.approx({"adversary_loss": 2 * np.log(2), "generator_loss": np.log(2)})


def test_each_step_moves_one_network_and_leaves_every_bit_of_the_other(method):
    batch = batch_of(method, pictures_of(8, 16, 3))
    adversary, generator = values(method.adversary), values(method.generator)
    method.minimise(batch, loss=method.adversary_step_loss, groups="adversary")
    assert all(equal(method.generator, generator))
    assert not all(equal(method.adversary, adversary))
    adversary = values(method.adversary)
    method.minimise(batch, loss=method.generator_step_loss, groups="generator")
    assert all(equal(method.adversary, adversary))
    moved = dict(zip([v.path for v in method.generator.variables], equal(method.generator, generator), strict=True))
    assert not any(moved.values()), [path for path, same in moved.items() if same]


def test_the_generators_rate_is_ten_times_the_adversarys(method):
    rates = {name: float(optimizer.learning_rate) for name, optimizer in method.optimizers.items()}
    assert rates == pytest.approx({"generator": 2e-3, "adversary": 2e-4})
    owned = [id(variable) for group in method.optimizer_groups().values() for variable in group.variables]
    assert sorted(owned) == sorted(id(variable) for variable in method.trainable_variables)


def test_without_an_adversary_there_is_one_optimizer_at_its_own_rate():
    method = build(reconstruction=1.0)
    method.compile(keras.optimizers.Adam(2e-4))
    assert {name: float(o.learning_rate) for name, o in method.optimizers.items()} == pytest.approx({"generator": 2e-4})
    assert set(method.train_step(batch_of(method, pictures_of(4, 16, 3)))) == {"loss", "reconstruction", "variance"}
    assert method.chance() == {}


def test_random_regions_hide_a_quarter_each_in_its_own_place():
    regions = irregular_regions(tf.range(64, dtype=tf.int64), 32, 0.25).numpy()
    assert regions.shape == (64, 32, 32, 1)
    assert regions.sum(axis=(1, 2, 3)).tolist() == [256] * 64
    assert len({region.tobytes() for region in regions}) == 64
    assert regions.mean(axis=0).max() < 0.7  # no place that is always hidden
    # in one piece or few: a pixel's right neighbour is almost always of its kind, where scattered pixels give 0.625
    alike = (regions[:, :, 1:] == regions[:, :, :-1]).mean()
    assert alike > 0.85


def test_the_loss_of_a_random_region_is_over_the_region(random_region):
    batch = batch_of(random_region, pictures_of(4, 16, 3))
    target, hidden, region = random_region.asked(batch, tf.float32)
    np.testing.assert_array_equal(hidden, region)
    outside = random_region.joint_loss(batch, target + (1 - region), None)
    inside = random_region.joint_loss(batch, target + region, None)
    assert float(outside["loss"]) == 0
    assert float(inside["loss"]) == pytest.approx(1.0, rel=1e-5)
    real, fake = random_region.shown(batch, target + 1)
    np.testing.assert_allclose(fake - real, np.broadcast_to(region, target.shape), atol=1e-6)


def test_filling_changes_the_hole_only(method, random_region):
    for each in (method, random_region):
        batch = batch_of(each, pictures_of(4, 16, 3))
        filled, seen = each.fill(batch).numpy(), batch["hidden"].numpy() == 0
        assert filled.shape == (4, 16, 16, 3)
        assert 0 <= filled.min() <= filled.max() <= 1
        np.testing.assert_array_equal(filled * seen, batch["target"].numpy() * seen)


def test_a_hole_that_is_all_rim_is_refused():
    with pytest.raises(OptionsError, match="overlap: 4 on each side leaves no hole of 8 px"):
        build(overlap=4)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3)])
def test_learns_to_fill_below_the_variance(size, channels):
    """Each picture has one brightness, which the surroundings tell.

    With so little to tell, a narrower decoder may draw weights whose ReLUs are all off for the dark pictures.
    """
    levels = np.random.default_rng(0).integers(0, 256, 32).astype("uint8")
    pictures = np.broadcast_to(levels[:, None, None, None], (32, size, size, channels)).copy()
    method = build(size, channels, decoder_width=16)
    method.compile(keras.optimizers.Adam(1e-3, beta_1=0.5))
    history = method.fit(pictures, batch_size=32, epochs=40, verbose=0).history
    assert history["reconstruction"][-1] < 0.3 * history["variance"][-1]
