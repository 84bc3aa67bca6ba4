"""Exemplar-CNN against its paper: seeds, transforms, the class of each, and the triplet form."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_context.exemplar import (
    COMPONENTS,
    Transform,
    batch_hard,
    draw_transforms,
    seed_corners,
    transform,
)
from kzoo_context.options import ExemplarOptions

import kzoo
from kzoo import augment
from kzoo.errors import OptionsError
from kzoo.testing.fakes import batch_of

STILL = {"translation": 0.0, "scale": (1.0, 1.0), "rotation": 0.0, "contrast": (1.0, 1.0), "hsv": False}


def build(channels=3, examples=16, **options):
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("small_resnet", input_shape=(None, None, channels), width=8)
    return kzoo.build_method("exemplar", backbone, data=kzoo.DataFacts(examples=examples), **options)


def keys(count, start=0):
    return tf.range(start, start + count, dtype=tf.int64)


def soft(count=16, size=32, channels=3, seed=0):
    """Soft random patterns, uint8."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 6, 6, channels))
    return np.uint8(tf.image.resize(coarse, (size, size)))


def still(count, channels=3, **changed):
    ones = tf.ones(count)
    parameters = Transform(tf.zeros((count, 2)), ones, tf.zeros(count), tf.ones((count, channels)))
    return parameters._replace(**{name: tf.constant(value, tf.float32) for name, value in changed.items()})


class TestTransforms:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_identity_parameters_reproduce_the_seed(self, channels):
        images = tf.constant(soft(4, 24, channels) / np.float32(255))
        corners = tf.constant([[0, 0], [3, 5], [8, 8], [1, 7]])
        patches = transform(images, corners, 16, still(4, channels)).numpy()
        for patch, image, (top, left) in zip(patches, images.numpy(), corners.numpy(), strict=True):
            np.testing.assert_allclose(patch, image[top : top + 16, left : left + 16], atol=1e-6)
        method = build(channels, **STILL, patch=16)
        batch = batch_of(method, soft(4, 24, channels))
        np.testing.assert_allclose(batch["image"], batch["seed_patch"], atol=1e-6)

    def test_each_transform_is_what_it_says(self):
        """On the coordinates of the pixels themselves, as grey values."""
        rows, columns = np.mgrid[:32, :32].astype("float32") / 100

        def seen(image, **changed):
            images = tf.constant(image[None, ..., None])
            return transform(images, tf.constant([[8, 8]]), 16, still(1, 1, **changed)).numpy()[0, ..., 0] * 100

        inside = slice(1, -1)
        moved = seen(rows, shift=[[0.125, 0.0]])
        np.testing.assert_allclose(moved, np.tile(np.arange(16)[:, None] + 10, (1, 16)), atol=1e-4)  # 2 of 16 pixels
        scaled = seen(columns, scale=[1.4])
        np.testing.assert_allclose(np.diff(scaled[0]), np.full(15, 1.4), atol=1e-4)
        assert scaled.mean() == pytest.approx(15.5, abs=1e-4)  # about the middle
        turned = seen(columns, angle=[math.pi / 2])
        expected = np.tile(np.arange(23, 7, -1)[:, None], 16)
        np.testing.assert_allclose(turned[inside, inside], expected[inside, inside], atol=1e-3)
        doubled = seen(columns, contrast=[[2.0]])
        np.testing.assert_allclose(doubled - 15.5, 2 * (seen(columns) - 15.5), atol=1e-3)

    def test_each_component_of_colour_has_its_own_contrast(self):
        np.testing.assert_allclose(COMPONENTS.T @ COMPONENTS, np.eye(3), atol=1e-6)
        assert np.abs(COMPONENTS[:, 0]).std() < 0.01  # the first is brightness
        images = tf.constant(0.5 + 0.2 * (soft(8, 16) / np.float32(255) - 0.5))  # too faint to be clipped
        factors = np.random.default_rng(0).uniform(0.5, 2, (8, 3))
        changed = transform(images, tf.zeros((8, 2), tf.int32), 16, still(8, contrast=factors)).numpy()

        def along(x):
            return (x - x.mean(axis=(1, 2), keepdims=True)) @ COMPONENTS

        np.testing.assert_allclose(along(changed), along(images.numpy()) * factors[:, None, None], atol=1e-5)

    def test_the_ranges_are_the_papers(self):
        drawn = draw_transforms(keys(4000), 3, ExemplarOptions())
        for values, low, high in (
            (drawn.shift, -0.2, 0.2),
            (drawn.scale, 0.7, 1.4),
            (np.degrees(drawn.angle), -20, 20),
            (drawn.contrast, 0.5, 2.0),
        ):
            values = np.asarray(values)
            assert low <= values.min() < low + 0.01 * (high - low)
            assert high - 0.01 * (high - low) < values.max() <= high
            assert values.mean() == pytest.approx((low + high) / 2, abs=3 * (high - low) / math.sqrt(12 * 4000))

    def test_to_hsv_and_back_is_the_image(self):
        images = soft(4) / np.float32(255)
        ones = tf.ones((4, 2))
        back = augment.hsv_power(images, augment.HSVPower(ones, ones, 0 * ones, tf.zeros(4)))
        assert np.abs(back - images).max() < 1e-3


class TestSeeds:
    def test_transforms_of_a_seed_share_its_label_and_differ(self):
        method = build(views=5, patch=16)
        batch = batch_of(method, soft(4, 24))
        np.testing.assert_array_equal(batch["exemplar"], [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5)
        patches = batch["image"].numpy().reshape(20, -1)
        distance = np.abs(patches[:, None] - patches).mean(axis=-1)
        assert distance[~np.eye(20, dtype=bool)].min() > 0.01
        again = batch_of(method, soft(4, 24), 100)
        assert np.abs(again["image"] - batch["image"]).mean() > 0.01
        np.testing.assert_array_equal(again["seed_patch"], batch["seed_patch"])  # the seed is the image's, for good

    def test_seeds_lie_where_gradients_are(self):
        flat = np.full((600, 48, 48, 1), 0.5, "float32")
        textured = flat.copy()
        textured[:, 24:, 30:] += np.random.default_rng(0).normal(0, 0.1, (600, 24, 18, 1)).astype("float32")
        top, left = seed_corners(tf.constant(textured), keys(600), 16).numpy().T
        assert top.min() >= 24 - 16
        assert left.min() >= 30 - 16
        assert len(set(zip(top, left, strict=True))) > 50
        anywhere = seed_corners(tf.constant(flat), keys(600), 16).numpy()
        assert anywhere.mean() == pytest.approx(16, abs=3 * 33 / math.sqrt(12 * 1200))
        with pytest.raises(OptionsError, match="exemplar: patches of 64 pixels from images of 24; lower"):
            batch_of(build(patch=64), soft(2, 24))


class TestClasses:
    @pytest.mark.parametrize(("classes", "expected"), [(8000, 8.9872), (16000, 9.6803)])
    def test_uniform_logits_cost_log_n(self, classes, expected):
        method = build(examples=classes)
        logs = method.loss({"logits": tf.zeros((4, classes))}, {"exemplar": keys(4)})
        assert float(logs["loss"]) == pytest.approx(expected, abs=1e-4)
        assert method.chance() == pytest.approx({"loss": expected, "accuracy": 1 / classes, "ranking": 0.5}, abs=1e-4)

    def test_needs_the_number_of_examples(self):
        backbone = kzoo.build_backbone("small_resnet", input_shape=(None, None, 3), width=8)
        with pytest.raises(OptionsError, match="exemplar"):
            kzoo.build_method("exemplar", backbone)
        assert kzoo.build_method("exemplar", backbone, form="triplet").head.units == 1000

    def test_gradient_reaches_everything(self):
        method = build()
        method.compile(keras.optimizers.SGD(0.1))
        before = [np.array(v) for v in method.trainable_variables]
        method.train_step(batch_of(method, soft()))
        assert all(not np.array_equal(v, old) for v, old in zip(method.trainable_variables, before, strict=True))

    def test_recognises_new_transforms_but_not_under_labels_at_random(self):
        images = soft(32, 24, seed=1)
        accuracy, ranking = {}, {}
        for name in ("true", "random"):
            method = build(examples=32, dropout=0.2, patch=16, hsv=False)
            method.compile(keras.optimizers.Adam(5e-3))
            step, rng = tf.function(method.train_step), np.random.default_rng(0)
            batches = [batch_of(method, images, 100 * i) for i in range(16)]
            for i in range(80):
                batch = batches[i % 16]
                if name == "random":
                    batch = batch | {"exemplar": tf.constant(rng.permutation(32))}
                step(batch)
            new = [batch_of(method, images, 9000 + 100 * i) for i in range(4)]
            asked = [method.loss(method.forward(batch, training=False), batch) for batch in new]
            accuracy[name] = np.mean([float(logs["accuracy"]) for logs in asked])
            ranking[name] = float(method.test_step(batch_of(method, soft(16, 24, seed=7)))["ranking"])
        assert accuracy["true"] > 0.5
        assert accuracy["random"] <= 2 / 32
        assert ranking["true"] > 0.8  # of images it never saw

    def test_ranking_counts_how_often_the_own_seed_is_nearer(self):
        method = build()
        angle = {"image": [0.0, 0.4, 1.0], "seed_patch": [0.1, 0.9, 0.9]}
        method.embed = lambda x, training: tf.constant([[math.cos(a), math.sin(a)] for a in angle[x]], tf.float32)
        # the first: its own seed is nearest, 2 of 2. The others have two seeds at the same distance, half a point each;
        # the first seed is nearer to the second transform, but not to the third
        logs = method.test_step({"image": "image", "seed_patch": "seed_patch"})
        assert float(logs["ranking"]) == pytest.approx((2 + 0.5 + 1.5) / 6, abs=1e-6)

    def test_answers_show_the_nearest_seed(self):
        method = build(patch=16, **STILL)
        answers = method.visualise({}, batch_of(method, soft(4, 24)))
        np.testing.assert_array_equal(answers["nearest seed"], answers["seed"])  # a still transform is its seed
        assert answers["answer"] == ["found"] * 4


class TestTriplet:
    def test_equal_embeddings_cost_log_2_and_the_gradient_is_finite(self):
        projection = tf.Variable(tf.one_hot([0] * 8, 4))
        with tf.GradientTape() as tape:
            loss = batch_hard(projection, tf.repeat(keys(2), 4))
        assert float(loss) == pytest.approx(0.6931, abs=1e-4)
        assert np.isfinite(tape.gradient(loss, projection)).all()

    def test_bounds_of_unit_vectors(self):
        """Distances lie in [0, 2]: the loss in softplus(-2) .. softplus(2)."""
        apart = tf.constant([[1.0, 0], [1.0, 0], [-1.0, 0], [-1.0, 0]])
        together = keys(2)
        assert float(batch_hard(apart, tf.repeat(together, 2))) == pytest.approx(0.1269, abs=1e-4)
        assert float(batch_hard(apart, tf.tile(together, [2]))) == pytest.approx(2.1269, abs=1e-4)

    def test_hardest_of_seven_positives_and_of_all_negatives(self):
        rng = np.random.default_rng(0)
        points = rng.normal(size=(24, 3))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        label = np.repeat(np.arange(3), 8)
        distance = np.linalg.norm(points[:, None] - points, axis=-1)
        same = label[:, None] == label
        assert ((same.sum(axis=1) - 1) == 7).all()
        assert ((~same).sum(axis=1) == 16).all()
        hardest = np.where(same, distance, -1).max(axis=1) - np.where(same, 9, distance).min(axis=1)
        expected = np.log1p(np.exp(hardest)).mean()
        assert float(batch_hard(tf.constant(points), tf.constant(label))) == pytest.approx(expected, abs=1e-9)

    def test_trains_on_eight_views_of_each(self):
        method = build(form="triplet", width=16, patch=16)
        batch = batch_of(method, soft(4, 24))
        assert batch["image"].shape == (32, 16, 16, 3)
        method.compile(keras.optimizers.SGD(0.1))
        before = [np.array(v) for v in method.trainable_variables]
        assert 0.1269 < float(method.train_step(batch)["loss"]) < 2.1269
        moved = [not np.array_equal(v, old) for v, old in zip(method.trainable_variables, before, strict=True)]
        assert all(moved)
        assert set(method.test_step(batch)) == {"ranking", "loss"}
        with pytest.raises(ValueError, match="views: form triplet compares transforms of one seed, at least 2"):
            ExemplarOptions(form="triplet", views=1)


@pytest.mark.parametrize(("size", "channels", "options"), [(28, 1, {}), (96, 3, {"patch": 32}), (28, 1, {"size": 40})])
def test_sizes_and_grey(size, channels, options):
    method = build(channels, **options)
    batch = batch_of(method, soft(2, size, channels))
    side = options.get("patch") or options.get("size") or size
    assert batch["image"].shape == (2, side, side, channels)
    assert 0 <= float(tf.reduce_min(batch["image"])) <= float(tf.reduce_max(batch["image"])) <= 1
    assert method.forward(batch, training=False)["logits"].shape == (2, 16)
