"""Monodepth2: the ends of depth, the inverse of a pose, what a warp leaves alone, and what teaches nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_temporal.examples import VIDEOS, texture
from kzoo_temporal.modalities import VIDEO
from kzoo_temporal.monodepth2 import Monodepth2, errors
from kzoo_temporal.options import Monodepth2Options
from kzoo_temporal.parts.geometry import depth_of, enlarge, pose_matrix, sample, warp

import kzoo
from kzoo.errors import OptionsError
from kzoo.testing.examples import raw_batch
from kzoo.testing.tiny import tiny_backbone

CAMERA = tf.constant([[0.58, 0.58, 0.5, 0.5]])
STILL = tf.zeros((1, 3))


@pytest.fixture(scope="module")
def method():
    keras.utils.set_random_seed(0)
    options = {"scales": 2, "decoder_width": 4, "pose_widths": [8, 8]}
    return kzoo.build_method("monodepth2", tiny_backbone((32, 32, 3)), data=VIDEOS.source(32, 3), **options)


@pytest.fixture(scope="module")
def picture():
    return tf.constant(texture(np.random.default_rng(0), 32, 32, 3)[None])


def made_of(raw, options):
    return Monodepth2.pretext(VIDEO.take(raw, Monodepth2.choose(raw, raw["id"], options)), raw["id"], options)


class TestGeometry:
    def test_the_ends_of_depth(self):
        np.testing.assert_allclose(depth_of(tf.constant([0.0, 1.0])), [100, 0.1], rtol=1e-6)

    def test_the_inverse_of_a_pose(self):
        rng = np.random.default_rng(0)
        turn, move = (tf.constant(rng.normal(size=(5, 3)), tf.float32) for _ in range(2))
        there, back = pose_matrix(turn, move), pose_matrix(turn, move, invert=True)
        np.testing.assert_allclose(back @ there, np.tile(np.eye(4), (5, 1, 1)), atol=1e-5)
        rotation = there[:, :3, :3].numpy()
        np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (5, 1, 1)), atol=1e-5)

    def test_a_quarter_turn_about_z_takes_x_to_y(self):
        pose = pose_matrix(tf.constant([[0.0, 0.0, np.pi / 2]]), STILL)
        np.testing.assert_allclose(pose[0, :3, :3] @ np.array([[1.0], [0], [0]]), [[0], [1], [0]], atol=1e-6)

    def test_no_movement_has_a_gradient(self):
        turn = tf.zeros((1, 3))
        with tf.GradientTape() as tape:
            tape.watch(turn)
            total = tf.reduce_sum(pose_matrix(turn, STILL) * tf.reshape(tf.range(16.0), (1, 4, 4)))
        gradient = tape.gradient(total, turn).numpy()
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).min() > 0

    def test_without_movement_any_depth_leaves_the_picture(self, picture):
        depth = tf.random.stateless_uniform((1, 32, 32), (0, 1), 0.1, 100.0)
        np.testing.assert_allclose(warp(picture, depth, pose_matrix(STILL, STILL), CAMERA), picture, atol=1e-4)

    def test_depth_and_movement_scaled_together_leave_the_warp(self, picture):
        """From one camera the scale cannot be told."""
        depth = tf.random.stateless_uniform((1, 32, 32), (0, 1), 1.0, 5.0)
        turn, move = tf.constant([[0.01, 0.02, 0.03]]), tf.constant([[0.1, -0.05, 0.2]])
        one, other = (warp(picture, s * depth, pose_matrix(turn, s * move), CAMERA) for s in (1.0, 7.0))
        np.testing.assert_allclose(one, other, atol=1e-4)
        assert np.abs(one - picture).max() > 0.05

    def test_a_camera_that_moves_right_sees_a_plane_move_left(self, picture):
        """At depth z a movement of t shifts by f t / z of the width: 0.58 * 0.1 / 0.58 = a tenth; of 32 pixels, 3.2."""
        pose = pose_matrix(STILL, tf.constant([[0.1, 0.0, 0.0]]))
        made = warp(picture, tf.fill((1, 32, 32), 0.58 / 1.0), pose, CAMERA)
        columns, rows = tf.meshgrid(tf.range(32.0), tf.range(32.0))
        np.testing.assert_allclose(made, sample(picture, (columns + 3.2)[None], rows[None]), atol=1e-4)


class TestLoss:
    def outputs(self, method, batch, move=0.0):
        found = method.forward(batch, training=False)
        return {**found, **{f"pose_{name}": found[f"pose_{name}"] * 0 + move for name in ("before", "after")}}

    def batch(self, method):
        raw = raw_batch(VIDEOS.source(32, 3), 4)
        return {**method.transform(raw, raw["id"]), "seed": raw["id"]}

    def test_equal_frames_cost_nothing_and_teach_nothing(self, method):
        batch = self.batch(method)
        alike = {**batch, "before": batch["now"], "after": batch["now"]}
        logs = method.loss(self.outputs(method, alike, move=0.05), alike)
        assert abs(float(logs["photometric"])) < 1e-4
        assert float(logs["moving"]) < 0.02

    def test_a_still_camera_masks_about_everything(self, method):
        """The scene changes, the pose says that nothing does: warped and unwarped are one, and noise decides."""
        batch = self.batch(method)
        moved = method.loss(self.outputs(method, batch, move=0.3), batch)
        assert float(moved["moving"]) < 0.5
        unwarped = tf.reduce_min(tf.stack([errors(batch["now"], batch[n]) for n in ("before", "after")], -1), -1)
        logs = method.loss(self.outputs(method, batch), batch)
        assert float(logs["photometric"]) == pytest.approx(float(tf.reduce_mean(unwarped)), abs=1e-4)

    def test_each_pixel_takes_the_least_not_the_mean(self, method):
        batch = self.batch(method)
        spoiled = {**batch, "before": tf.zeros_like(batch["now"])}
        outputs = self.outputs(method, batch)
        logs = method.loss(outputs, spoiled)
        after = float(tf.reduce_mean(errors(batch["now"], batch["after"])))
        assert float(logs["photometric"]) <= after + 1e-4

    def test_pixels_that_identity_wins_give_no_gradient(self, method):
        batch = self.batch(method)
        alike = {**batch, "before": batch["now"], "after": batch["now"]}
        outputs = self.outputs(method, alike, move=0.3)
        depth = outputs["sigmoid_0"]
        with tf.GradientTape() as tape:
            tape.watch(depth)
            logs = method.loss({**outputs, "sigmoid_0": depth}, alike)
        gradient = tape.gradient(logs["photometric"], depth).numpy()
        assert (gradient == 0).mean() > 0.9

    def test_the_networks_see_varied_colours_and_the_loss_plain_ones(self, method):
        batch = self.batch(method)
        outputs = method.forward(batch, training=False)
        other = {**batch, **{f"seen_{name}": batch[f"seen_{name}"] * 0 for name in ("before", "now", "after")}}
        assert float(method.loss(outputs, other)["loss"]) == float(method.loss(outputs, batch)["loss"])
        changed = method.forward(other, training=False)
        assert np.abs(changed["sigmoid_0"] - outputs["sigmoid_0"]).max() > 1e-6

    def test_the_pose_before_is_the_inverse_of_what_is_said_in_the_order_of_time(self, method):
        batch = self.batch(method)
        outputs = self.outputs(method, batch)
        outputs["pose_before"] += tf.constant([0.02, 0.01, 0.03, 0.1, 0.0, 0.05])
        turn, move = tf.split(outputs["pose_before"], 2, axis=-1)
        depth = depth_of(outputs["sigmoid_0"])[..., 0]
        expected = warp(batch["before"], depth, tf.linalg.inv(pose_matrix(turn, move)), batch["intrinsics"])
        np.testing.assert_allclose(method.warped(outputs, batch, 0)[0], expected, atol=1e-3)


def test_the_signature_depth_is_that_of_single_frames(method):
    images = tf.random.stateless_uniform((2, 32, 32, 3), (0, 1))
    depth = method.signatures()["depth"](images)["depth"].numpy()
    sigmoid = method.sigmoids(images, training=False)[0].numpy()[..., 0]
    assert depth.shape == (2, 32, 32)
    np.testing.assert_allclose(1 / depth, 0.01 + 9.99 * sigmoid, rtol=1e-4)


def test_frames_come_in_the_order_of_time_and_flip_together():
    raw = raw_batch(VIDEOS.source(32, 3), 8)
    frames = tf.range(8)[None, :, None, None, None] * tf.ones((8, 8, 32, 32, 3), tf.int32)
    numbered = {**raw, "video": tf.cast(frames, tf.uint8)}
    ready = made_of(numbered, Monodepth2Options(gap=2))
    before, now, after = (np.round(ready[name][:, 0, 0, 0] * 255) for name in ("before", "now", "after"))
    np.testing.assert_array_equal(now - before, 2)
    np.testing.assert_array_equal(after - now, 2)
    still = {**raw, "video": tf.repeat(raw["video"][:, :1], 8, axis=1)}
    ready = made_of(still, Monodepth2Options())
    np.testing.assert_array_equal(ready["before"], ready["after"])
    np.testing.assert_array_equal(ready["seen_before"], ready["seen_after"])


def test_intrinsics_of_the_data_count_and_are_mirrored_with_the_picture():
    raw = {**raw_batch(VIDEOS.source(32, 3), 4), "intrinsics": tf.constant([[0.5, 0.6, 0.4, 0.7]] * 4)}
    ready = made_of(raw, Monodepth2Options(flip=1.0))
    np.testing.assert_allclose(ready["intrinsics"], [[0.5, 0.6, 0.6, 0.7]] * 4, atol=1e-6)


def test_clips_that_are_too_short_are_refused():
    raw = raw_batch(VIDEOS.source(32, 3), 2)
    with pytest.raises(OptionsError, match="clips of 8 frames; gap 4 needs at least 9"):
        made_of(raw, Monodepth2Options(gap=4))


def test_a_map_is_enlarged_as_by_bilinear_resizing_and_keeps_its_precision():
    maps = np.random.default_rng(0).uniform(size=(2, 3, 5, 1))
    expected = tf.image.resize(maps, (12, 20))
    found = enlarge(tf.constant(maps), (12, 20))
    assert found.dtype == tf.float64
    np.testing.assert_allclose(found, expected, atol=1e-6)
