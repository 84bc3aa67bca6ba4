"""V-JEPA: one mask for all slots, how much is hidden, what an answer of 0 costs, and who is taught by whom."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_temporal.examples import VIDEOS
from kzoo_temporal.parts.blocks import hidden_places, some_of

import kzoo
from kzoo.testing.examples import raw_batch

PREDICTED = ("predicted_0", "predicted_1")
SMALL = {"predictor_width": 16, "predictor_depth": 1, "predictor_heads": 2, "context": [0.25, 0.1]}


@pytest.fixture(scope="module")
def method():
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("video_vit_tiny", (8, 32, 32, 3), patch_size=8, depth=1, width=24)
    method = kzoo.build_method("v_jepa", backbone, data=VIDEOS.source(32, 3), **SMALL, momentum=0.5)
    method.compile(keras.optimizers.SGD(0.1), total_steps=8)
    return method


@pytest.fixture(scope="module")
def batch(method):
    raw = raw_batch(VIDEOS.source(32, 3), 8)
    ready = method.transform(raw, raw["id"])
    return {**ready, "taught": method.targets(ready, training=True)}


class TestMasks:
    @pytest.mark.parametrize(("blocks", "share", "expected"), [(8, 0.15, 0.63), (2, 0.7, 0.82)])
    def test_how_much_is_hidden_of_14_x_14_places(self, blocks, share, expected):
        keys = tf.range(2000, dtype=tf.int64)
        hidden = hidden_places(keys, (14, 14), blocks, share, (0.75, 1.5), 1)
        assert float(tf.reduce_mean(tf.cast(hidden, tf.float32))) == pytest.approx(expected, abs=0.025)

    def test_enough_is_left_of_every_clip(self):
        keys = tf.range(2000, dtype=tf.int64)
        hidden = hidden_places(keys, (14, 14), 2, 0.7, (0.75, 1.5), 30)
        assert (~hidden.numpy()).sum(axis=1).min() >= 30

    def test_what_is_kept_is_not_hidden_and_there_once(self):
        keys = tf.range(500, dtype=tf.int64)
        hidden = hidden_places(keys, (4, 4), 2, 0.5, (0.75, 1.5), 4)
        kept = some_of(keys, ~hidden, 4)
        assert not tf.gather(hidden, kept, batch_dims=1).numpy().any()
        assert (np.diff(kept, axis=1) > 0).all()

    def test_the_same_places_are_hidden_in_all_slots_and_none_of_them_is_context(self, method, batch):
        outputs = method.forward(batch, training=False)
        for kind in range(2):
            hidden = outputs[f"hidden_{kind}"].numpy().reshape(8, 4, 16)
            assert (hidden == hidden[:, :1]).all()
            places, _ = method.masks(batch["seed"], kind)
            assert not np.take_along_axis(hidden[:, 0], places.numpy(), axis=1).any()


class TestLoss:
    def outputs(self, predicted, hidden=None):
        every = tf.ones(predicted.shape[:2], tf.bool)
        hidden = hidden or (every, every)
        return {"predicted_0": predicted, "predicted_1": predicted, "hidden_0": hidden[0], "hidden_1": hidden[1]}

    def test_equal_costs_nothing_and_an_answer_of_0_about_7979(self, method):
        taught = tf.random.stateless_normal((4, 64, 400), (0, 1))
        assert float(method.loss(self.outputs(taught), {"taught": taught})["loss"]) == 0
        logs = method.loss(self.outputs(tf.zeros_like(taught)), {"taught": taught})
        assert float(logs["loss"]) == pytest.approx(0.7979, abs=5e-3)
        assert method.chance() == {"loss": pytest.approx(0.7979, abs=1e-4)}

    def test_it_is_the_mean_of_each_masks_mean(self, method):
        """One tubelet hidden by the first mask, off by 1; three by the second, off by 0, 0 and 3: (1 + 1) / 2."""
        taught = tf.zeros((1, 4, 2))
        predicted = tf.constant([[[1.0, 1], [0, 0], [0, 0], [3, 3]]])
        hidden = tf.constant([[True, False, False, False]]), tf.constant([[False, True, True, True]])
        logs = method.loss(self.outputs(predicted, hidden), {"taught": taught})
        assert float(logs["loss"]) == pytest.approx(1.0)

    def test_targets_are_normalised_over_their_features(self, method, batch):
        np.testing.assert_allclose(tf.reduce_mean(batch["taught"], -1), 0, atol=1e-5)
        np.testing.assert_allclose(tf.math.reduce_variance(batch["taught"], -1), 1, atol=1e-2)

    def test_hidden_pixels_have_no_influence_on_what_is_said(self, method, batch):
        outputs = method.forward(batch, training=False)
        for kind in range(2):
            cut = method.tubelets.cut(batch["video"]).numpy()
            cut[outputs[f"hidden_{kind}"].numpy()] = 0.77
            changed = method.forward({**batch, "video": method.tubelets.join(tf.constant(cut))}, training=False)
            np.testing.assert_array_equal(changed[f"predicted_{kind}"], outputs[f"predicted_{kind}"])


class TestTeacher:
    def test_it_gets_no_gradient_and_follows_after_the_step(self, method, batch):
        with tf.GradientTape() as tape:
            taught = method.targets(batch, training=True)
        weights = [variable.value for variable in method.teacher.variables]
        assert tape.gradient(taught, weights) == [None] * len(weights)
        before = [np.array(ours) for ours, _ in method.teacher.pairs]
        method.train_step({name: value for name, value in batch.items() if name != "taught"})
        for was, (ours, theirs) in zip(before, method.teacher.pairs, strict=True):
            np.testing.assert_allclose(ours, 0.5 * was + 0.5 * np.array(theirs), atol=1e-6)

    def test_it_goes_downstream(self, method):
        assert method.encoder is method.teacher.models[0]


def test_stand_ins_are_0_at_first_and_one_for_each_mask():
    backbone = kzoo.build_backbone("video_vit_tiny", (8, 32, 32, 3), patch_size=8, depth=1, width=24)
    fresh = kzoo.build_method("v_jepa", backbone, data=VIDEOS.source(32, 3), **SMALL)
    np.testing.assert_array_equal(fresh.predictor.mask_tokens, np.zeros((2, 16)))


class TestFigures:
    def test_who_knows_the_targets_costs_nothing_and_who_knows_the_place_the_baseline(self, method, monkeypatch):
        source, forward = VIDEOS.source(32, 3), type(method).forward
        usual = method.extra_metrics(source, source)["prediction_error_of_median"]
        assert usual > 0.05

        def knowing(self, batch, training):
            return {**forward(self, batch, training), **dict.fromkeys(PREDICTED, self.targets(batch, False))}

        monkeypatch.setattr(type(method), "forward", knowing)
        assert method.extra_metrics(source, source)["prediction_error"] == 0.0

    def test_collapse_is_seen(self, method, monkeypatch):
        targets = type(method).targets
        monkeypatch.setattr(type(method), "targets", lambda self, batch, training: 0.0 * targets(self, batch, training))
        assert method.extra_metrics(VIDEOS.source(32, 3), None)["target_spread"] == 0.0
