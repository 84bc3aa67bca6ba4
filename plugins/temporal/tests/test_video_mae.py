"""VideoMAE: one mask for all slots, what an answer of 0 costs, and that the encoder never sees what is hidden."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_temporal.examples import VIDEOS, tiny_video_backbone
from kzoo_temporal.options import VideoMAEOptions
from kzoo_temporal.parts.tubelets import Tubelets, in_all_slots
from kzoo_temporal.video_mae import VideoMAE

import kzoo
from kzoo import patches
from kzoo.errors import OptionsError
from kzoo.random import permutation
from kzoo.testing.examples import raw_batch

SMALL = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}


@pytest.fixture(scope="module")
def method():
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("video_vit_tiny", (8, 32, 32, 3), patch_size=8, depth=1, width=24)
    return kzoo.build_method(
        "video_mae", backbone, data=VIDEOS.source(32, 3), **SMALL, ratio=0.75, scale=(1.0, 1.0), flip=0.0
    )


@pytest.fixture(scope="module")
def batch(method):
    raw = raw_batch(VIDEOS.source(32, 3), 4)
    return method.transform(raw, raw["id"])


def slots_of(numbers, tubelets):
    """The places that are named in each slot, as sets."""
    _, rows, columns = tubelets.grid
    slots = [[] for _ in range(tubelets.grid[0])]
    for number in np.asarray(numbers):
        slots[number // (rows * columns)].append(number % (rows * columns))
    return [set(places) for places in slots]


class TestTubes:
    def test_of_196_places_in_8_slots_1408_tubelets_are_hidden_and_160_seen(self):
        """ViT-B at 16 x 224 x 224 with tubelets of 2 x 16 x 16, ratio 0.9."""
        tubelets = Tubelets((8, 14, 14), (2, 16, 16, 3))
        order = permutation(tf.range(4, dtype=tf.int64), 196)
        hidden = in_all_slots(order[:, : int(0.9 * 196)], tubelets)
        kept = in_all_slots(order[:, int(0.9 * 196) :], tubelets)
        assert (hidden.shape, kept.shape) == ((4, 1408), (4, 160))
        every = np.sort(np.concatenate([hidden, kept], axis=1), axis=1)
        np.testing.assert_array_equal(every, np.tile(np.arange(1568), (4, 1)))

    def test_the_same_places_are_hidden_in_all_slots(self, method, batch):
        for row in method.split(batch["seed"])[1]:
            first, *others = slots_of(row, method.tubelets)
            assert len(first) == 12
            assert all(slot == first for slot in others)

    def test_a_mask_drawn_for_each_slot_would_be_told(self, method):
        order = permutation(tf.range(1, dtype=tf.int64), method.tubelets.count)[0, : 4 * 12]
        first, *others = slots_of(order, method.tubelets)
        assert any(slot != first for slot in others)

    def test_others_are_hidden_in_another_clip(self, method, batch):
        hidden = method.split(batch["seed"])[1].numpy()
        assert len({tuple(row) for row in hidden}) == 4


class TestTubelets:
    def test_cutting_and_joining_are_inverse(self, method, batch):
        cut = method.tubelets.cut(batch["video"])
        assert cut.shape == (4, 64, 128, 3)
        np.testing.assert_array_equal(method.tubelets.join(cut), batch["video"])
        np.testing.assert_array_equal(  # slot 1, row 2, column 3
            tf.reshape(cut[0, 16 + 2 * 4 + 3], (2, 8, 8, 3)), batch["video"][0, 2:4, 16:24, 24:32]
        )

    def test_the_backbone_numbers_them_alike(self, method, batch):
        """A tubelet's token changes with its own pixels only, before attention: shown alone, with nothing else."""
        number = tf.constant([[37]])
        alone = patches.encode_kept(method.backbone, batch["video"][:1], number)["tokens"]
        cut = method.tubelets.cut(batch["video"][:1]).numpy()
        rest = np.delete(np.arange(64), 37)
        cut[:, rest] = 0.3
        elsewhere = method.tubelets.join(tf.constant(cut))
        np.testing.assert_array_equal(patches.encode_kept(method.backbone, elsewhere, number)["tokens"], alone)
        cut[:, 37] = 0.9
        changed = patches.encode_kept(method.backbone, method.tubelets.join(tf.constant(cut)), number)["tokens"]
        assert np.abs(changed - alone).max() > 1e-3


class TestLoss:
    def test_an_answer_of_0_costs_1_less_1_nth(self, method, batch):
        """Of tubelets of 2 * 16 * 16 pixels: 511 / 512 = 0.9980; here of 2 * 8 * 8."""
        hidden = method.split(batch["seed"])[1]
        noise = {**batch, "video": tf.random.stateless_uniform(batch["video"].shape, (0, 1))}
        logs = method.loss({"predicted": tf.zeros((4, 48, 384)), "hidden": hidden}, noise)
        assert float(logs["loss"]) == pytest.approx(127 / 128, rel=1e-4)
        assert float(logs["variance"]) == pytest.approx(127 / 128, rel=1e-4)

    def test_each_colour_is_standardised_by_itself(self, method, batch):
        tinted = batch["video"] * tf.constant([1.0, 0.1, 0.5]) + tf.constant([0.0, 0.4, 0.2])
        one, other = (method.target(video) for video in (batch["video"], tinted))
        np.testing.assert_allclose(one, other, atol=0.02)
        values = tf.reshape(one, [4, 64, 128, 3]).numpy()
        np.testing.assert_allclose(values.mean(axis=2), 0, atol=1e-4)

    def test_visible_pixels_do_not_enter_and_hidden_ones_do(self, method, batch):
        outputs = method.forward(batch, training=True)
        kept, hidden = method.split(batch["seed"])
        losses = []
        for numbers in (kept, hidden):
            cut = method.tubelets.cut(batch["video"]).numpy()
            for row, some in enumerate(numbers.numpy()):
                cut[row, some] = cut[row, some][:, ::-1]
            losses.append(
                float(method.loss(outputs, {**batch, "video": method.tubelets.join(tf.constant(cut))})["loss"])
            )
        own = float(method.loss(outputs, batch)["loss"])
        assert losses[0] == own
        assert losses[1] != own

    def test_hidden_pixels_have_no_influence_on_the_answers(self, method, batch):
        hidden = method.split(batch["seed"])[1].numpy()
        cut = method.tubelets.cut(batch["video"]).numpy()
        for row, some in enumerate(hidden):
            cut[row, some] = 1.0 - cut[row, some]
        other = {**batch, "video": method.tubelets.join(tf.constant(cut))}
        one, two = (method.forward(some, training=True)["predicted"] for some in (batch, other))
        np.testing.assert_array_equal(one, two)


def test_all_frames_of_a_clip_have_one_crop():
    raw = raw_batch(VIDEOS.source(32, 3), 4)
    still = {**raw, "video": tf.repeat(raw["video"][:, :1], 8, axis=1)}
    video = VideoMAE.pretext(still, raw["id"], VideoMAEOptions(scale=(0.3, 0.6)))["video"].numpy()
    np.testing.assert_array_equal(video[:, 0], video[:, 7])
    assert np.abs(video[:, 0] - still["video"][:, 0].numpy() / 255).max() > 0.1


def test_true_predictions_rebuild_the_clip(method, batch):
    outputs = method.forward(batch, training=False)
    wanted = tf.gather(method.target(batch["video"]), outputs["hidden"], batch_dims=1)
    method.forward = lambda *args, **kwargs: {**outputs, "predicted": wanted}
    try:
        shown = method.visualise({}, batch)
    finally:
        del method.forward
    np.testing.assert_allclose(shown["rebuilt"], shown["clip"], atol=1e-4)
    assert np.all(shown["seen"] == 0.5, axis=-1).mean() == pytest.approx(0.75, abs=0.01)


def test_a_backbone_that_cannot_be_shown_a_part_is_refused():
    with pytest.raises(OptionsError, match="needs a backbone that can do token_subset"):
        kzoo.build_method("video_mae", tiny_video_backbone((8, 32, 32, 3)), data=VIDEOS.source(32, 3))
