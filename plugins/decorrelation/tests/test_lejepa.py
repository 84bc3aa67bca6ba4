"""LeJEPA: the statistic of Epps and Pulley by its closed forms, the prediction by hand, and what collapses."""

import math

import numpy as np
import pytest
import tensorflow as tf
from kzoo_decorrelation.lejepa import epps_pulley, unit_directions

import kzoo
from kzoo.distribute.devices import make_strategy
from kzoo.testing import fakes

ROOT = math.sqrt(2 * math.pi)
EXPECTED = ROOT - ROOT / math.sqrt(3)  # of standard normal values, however many


def build(**options):
    settings = {"projector": (24, 8), "local_views": 3, "local_size": 8, "directions": 64, **options}
    return fakes.build("lejepa", shape=(None, None, 3), **settings)


@pytest.fixture(scope="module")
def method():
    return build()


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def statistic(values, points=17, bound=5.0):
    return epps_pulley(tf.constant(values), points, bound).numpy()


def terms(method, z, seed=0):
    logs = method.loss({"z": tf.constant(z)}, {"seed": tf.range(seed, seed + len(z), dtype=tf.int64)})
    return {name: float(value) for name, value in logs.items()}


class TestEppsPulley:
    def test_is_the_integral(self):
        """Over all of [-bound, bound], 0 included, by the trapezoid rule."""
        y, t = normal(30) * 1.3 + 0.2, np.linspace(-5, 5, 17)
        wave = np.exp(1j * t[:, None] * y).mean(axis=1)
        values = np.abs(wave - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
        assert statistic(y[:, None]) == pytest.approx(30 * np.trapezoid(values, t), rel=1e-9)

    @pytest.mark.parametrize("count", [2, 16, 256])
    def test_of_standard_normal_values_is_1_06_however_many_there_are(self, count):
        found = statistic(normal(count, 4000))
        assert found.mean() == pytest.approx(EXPECTED, abs=4 * found.std() / math.sqrt(4000))
        assert found.mean() == pytest.approx(1.0594, abs=0.07)

    def test_of_a_point_at_zero_is_0_41_a_value_and_nothing_moves_it(self):
        y = tf.Variable(np.zeros((64, 1)))
        with tf.GradientTape() as tape:
            value = epps_pulley(y, 17, 5.0)
        assert float(value[0]) == pytest.approx((ROOT - 2 * math.sqrt(math.pi) + ROOT / math.sqrt(3)) * 64, rel=1e-3)
        assert float(value[0]) == pytest.approx(0.4089 * 64, rel=1e-3)
        np.testing.assert_array_equal(tape.gradient(value, y), 0.0)

    @pytest.mark.parametrize(
        ("values", "each"),
        [
            (np.full((64, 1), 2.0), 2.6497),
            (np.repeat([[1.0], [-1.0]], 32, axis=0), 0.1094),
            (2 * normal(200_000, 1), 0.236),
            (0.5 * normal(200_000, 1), 0.1517),
            (1 + normal(200_000, 1), 0.4443),
        ],
        ids=["2", "+-1", "sd 2", "sd 1/2", "mean 1"],
    )
    def test_of_other_distributions_grows_with_their_number(self, values, each):
        """Closed forms of the integral, which 17 points miss by up to 3 %."""
        assert statistic(values, 129)[0] / len(values) == pytest.approx(each, rel=0.02)

    def test_on_the_points_of_the_later_code(self):
        """17 points on [0, 3], doubled: 33 on [-3, 3]."""
        assert statistic(np.zeros((64, 1)), 33, 3.0)[0] == pytest.approx(0.4020 * 64, rel=1e-3)
        found = statistic(normal(64, 4000), 33, 3.0)
        assert found.mean() == pytest.approx(1.0525, abs=4 * found.std() / math.sqrt(4000))

    def test_unit_norm_would_never_be_normal(self, method):
        """Of d = 128 numbers of unit norm each is N(0, 1/128): 0.396 a value."""
        z = normal(512, 1, 128)
        z /= np.linalg.norm(z, axis=2, keepdims=True)
        assert terms(method, z)["sigreg"] / 512 == pytest.approx(0.396, rel=0.02)

    def test_replicas_make_one_statistic(self):
        """Value and gradient of two replicas are those of one; the mean of their own statistics is something else."""
        y, strategy = normal(16, 3) + 0.5, make_strategy("mirrored", 2, 16)

        def step(part):
            with tf.GradientTape() as tape:
                tape.watch(part)
                value = tf.reduce_sum(epps_pulley(part, 17, 5.0))
                shared = value / tf.distribute.get_strategy().num_replicas_in_sync  # as kzoo's step does
            return value, tape.gradient(shared, part)

        want, slope = step(tf.constant(y))
        halves = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(np.split(y, 2)[context.replica_id_in_sync_group])
        )
        values, slopes = tf.function(lambda part: strategy.run(step, (part,)))(halves)
        for value in strategy.experimental_local_results(values):
            assert float(value) == pytest.approx(float(want), rel=1e-12)
        np.testing.assert_allclose(np.concatenate(strategy.experimental_local_results(slopes)), slope, atol=1e-12)
        apart = np.mean([statistic(half).sum() for half in np.split(y, 2)])
        assert abs(apart - float(want)) > 0.1


class TestDirections:
    def test_are_unit_vectors_that_change_with_the_key(self):
        found = unit_directions(tf.constant(3, tf.int64), 500, 16)
        np.testing.assert_allclose(tf.norm(found, axis=1), 1.0, atol=1e-6)
        np.testing.assert_allclose(tf.matmul(found, found, transpose_a=True) / 500, np.eye(16) / 16, atol=0.015)
        np.testing.assert_array_equal(found, unit_directions(tf.constant(3, tf.int64), 500, 16))
        assert np.abs(found - unit_directions(tf.constant(4, tf.int64), 500, 16)).max() > 0.5

    def test_are_those_of_the_first_example(self, method):
        z = normal(8, 5, 8)
        assert terms(method, z, seed=1)["sigreg"] != terms(method, z, seed=2)["sigreg"]
        keys = tf.constant([1, *range(90, 97)], tf.int64)
        found = float(method.loss({"z": tf.constant(z)}, {"seed": keys})["sigreg"])
        assert found == terms(method, z, seed=1)["sigreg"]


class TestLoss:
    @pytest.mark.parametrize(("large", "small", "prediction"), [(2, 6, 1.25), (8, 0, 0.875)])
    def test_of_independent_normal_views(self, large, small, prediction):
        method = build(global_views=large, local_views=small)
        found = terms(method, normal(512, 8, 16))
        assert method.chance() == {"prediction": prediction}
        assert found["prediction"] == pytest.approx(prediction, rel=0.03)
        assert found["loss"] == pytest.approx(0.95 * found["prediction"] + 0.05 * found["sigreg"], rel=1e-9)
        assert found["sigreg"] == pytest.approx(EXPECTED, rel=0.3)

    def test_is_the_papers_formula(self, method):
        """Each view has a statistic of its own: pooled, that of views apart from each other would be another."""
        z = normal(32, 5, 8) + np.arange(5)[None, :, None] / 4
        centre = z[:, :2].mean(axis=1, keepdims=True)
        directions = unit_directions(tf.constant(0, tf.int64), 64, 8).numpy()
        each = [statistic(z[:, view] @ directions.T).mean() for view in range(5)]
        found = terms(method, z)
        assert found["prediction"] == pytest.approx(((z - centre) ** 2).mean(), rel=1e-9)
        assert found["sigreg"] == pytest.approx(np.mean(each), rel=1e-6)

    def test_the_gradient_also_flows_through_the_centre(self):
        """Without SIGReg: 2 (z - c) / (b V d), and the large views share the pull of all views on c."""
        z = tf.Variable(normal(4, 5, 8))
        with tf.GradientTape() as tape:
            value = build(sigreg=0.0).loss({"z": z}, {"seed": tf.range(4, dtype=tf.int64)})["loss"]
        gap = np.array(z) - np.array(z)[:, :2].mean(axis=1, keepdims=True)
        expected = gap.copy()
        expected[:, :2] -= gap.sum(axis=1, keepdims=True) / 2
        np.testing.assert_allclose(tape.gradient(value, z), 2 * expected / gap.size, atol=1e-12)


class TestViews:
    def test_projections_are_by_image_large_views_first(self, method):
        images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype("uint8")
        ids = tf.range(4, dtype=tf.int64)
        batch = method.transform({"image": tf.constant(images), "id": ids}, ids)
        assert batch["large"].shape == (8, 16, 16, 3)
        assert batch["small"].shape == (12, 8, 8, 3)
        z = method.forward(batch, training=False)["z"]
        assert z.shape == (4, 5, 8)
        one = method.projector(method.embed(batch["small"][4:5], False), training=False)  # of image 1, its second
        np.testing.assert_allclose(z[1, 3], one[0], atol=1e-5)
        shown = method.visualise({}, batch)
        np.testing.assert_array_equal(shown["small view"], batch["small"][::3])
        assert shown["covariances, 8 units"].shape == (1, 8, 8, 1)

    def test_the_small_size_is_seven_sixteenths(self):
        method = build(local_size=None, size=224)
        blank = {"image": tf.zeros((1, 32, 32, 3), tf.uint8)}
        assert method.pretext(blank, tf.zeros(1, tf.int64), method.options)["small"].shape == (3, 98, 98, 3)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": 32, "local_size": 64}, "local_size: 64 is more than size, 32"),
            ({"global_views": 1, "local_views": 0}, "one view has nothing"),
            ({"points": 16}, "points: expected an odd number"),
        ],
    )
    def test_what_is_asked_of_views_and_points_is_checked(self, options, message):
        with pytest.raises(kzoo.OptionsError, match=message):
            build(**options)
