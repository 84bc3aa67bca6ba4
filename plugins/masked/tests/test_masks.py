"""Block masks: how large, where, and how much they leave."""

import numpy as np
import pytest
import tensorflow as tf
from kzoo_masked.parts import masks

from kzoo.errors import OptionsError
from kzoo.patches import place_blocks
from kzoo.random import fold_in

GRID, AREA, ASPECT, SQUARE = (14, 14), (0.15, 0.2), (0.75, 1.5), (0.85, 1.0)
SETTINGS = {"context_scale": SQUARE, "kept": 0.25, "targets": 4, "scale": AREA, "aspect": ASPECT}


@pytest.fixture(scope="module")
def keys():
    return tf.range(20_000, dtype=tf.int64)


def test_blocks_of_14_by_14_patches_have_24_to_42(keys):
    heights, widths = masks.block_sizes(keys, GRID, AREA, ASPECT)
    sizes = heights.numpy() * widths.numpy()
    assert (sizes.min(), sizes.max()) == (24, 42)
    assert masks.largest_block(GRID, AREA, ASPECT) == 42
    ratio = heights.numpy() / widths.numpy()
    assert ratio.min() < 0.8  # 4/6 to 8/5
    assert ratio.max() > 1.4


@pytest.mark.parametrize("grid", [(2, 2), (3, 3), (4, 4), (7, 7), (8, 8), (6, 9), (16, 16)])
def test_the_largest_and_the_smallest_are_bounds(keys, grid):
    for area, aspect in ((AREA, ASPECT), (SQUARE, (1.0, 1.0)), ((0.3, 0.9), (0.3, 3.3))):
        heights, widths = masks.block_sizes(keys, grid, area, aspect)
        sizes = heights.numpy() * widths.numpy()
        assert sizes.max() <= masks.largest_block(grid, area, aspect)
        assert sizes.min() >= masks.smallest_block(grid, area, aspect)
        assert heights.numpy().max() <= grid[0]
        assert widths.numpy().max() <= grid[1]


def test_blocks_are_rectangles_anywhere_in_the_grid(keys):
    heights, widths = tf.fill([20_000], 2), tf.fill([20_000], 3)
    placed = place_blocks(keys, heights, widths, (4, 5)).numpy().reshape(-1, 4, 5)
    assert np.all(placed.any(2).sum(1) == 2)
    assert np.all(placed.any(1).sum(1) == 3)
    assert np.all(placed.sum((1, 2)) == 6)
    corner = placed[:, -1, -1].mean()  # the last of 3 * 3 places
    assert corner == pytest.approx(1 / 9, abs=0.01)


def test_what_four_targets_leave_of_the_context(keys):
    """Drawn once, not again: 90.5 patches of 196 on average."""
    sizes = masks.block_sizes(fold_in(keys, "target"), GRID, AREA, ASPECT)
    taken = [place_blocks(fold_in(keys, n), *sizes, GRID) for n in range(4)]
    square = fold_in(keys, "context")
    context = place_blocks(square, *masks.block_sizes(square, GRID, SQUARE, (1.0, 1.0)), GRID)
    left = (context & ~tf.reduce_any(tf.stack(taken), axis=0)).numpy().sum(1)
    assert left.mean() == pytest.approx(90.5, abs=0.5)
    assert 20 <= left.min() < 40
    assert 140 < left.max() <= 155
    assert 0 < (left < 49).mean() < 0.01  # how often all is drawn anew


class TestContextAndTargets:
    def test_all_keep_a_quarter_which_is_in_no_target(self, keys):
        drawn = masks.context_and_targets(keys[:2000], GRID, **SETTINGS)
        context, target, real = (part.numpy() for part in drawn)
        assert context.shape == (2000, 49)
        assert target.shape == real.shape == (2000, 4, 42)
        for row in range(2000):
            taken = set(target[row][real[row]].tolist())
            kept = set(context[row].tolist())
            assert len(kept) == 49
            assert not kept & taken
        sizes = real.sum(2)
        assert (sizes.min(), sizes.max()) == (24, 42)
        assert np.all(sizes == sizes[:, :1])  # one size for the blocks of an image

    def test_every_patch_can_be_context(self, keys):
        context = masks.context_and_targets(keys[:2000], GRID, **SETTINGS).context.numpy()
        often = np.bincount(context.ravel(), minlength=196) / 2000
        assert often.min() > 0.04  # of 0.25 on average; targets cover the middle more often

    def test_where_targets_would_leave_too_little_they_are_drawn_anew(self, keys):
        """Half of all is seldom left: 98 of 196."""
        context, target, real = masks.context_and_targets(keys[:500], GRID, **{**SETTINGS, "kept": 0.6})
        for row in range(500):
            taken = set(target[row][real[row]].numpy().tolist())
            assert len(set(context[row].numpy().tolist()) - taken) == 117

    def test_it_belongs_to_the_key(self, keys):
        some, alone = (masks.context_and_targets(keys[part], GRID, **SETTINGS) for part in (slice(3, 9), slice(5, 6)))
        for whole, one in zip(some, alone, strict=True):
            np.testing.assert_array_equal(whole[2], one[0])
        assert not np.array_equal(some.context[0], some.context[1])

    def test_too_much_context_is_refused(self, keys):
        with pytest.raises(OptionsError, match="context: 137 of 14 x 14 patches, and only 127 are sure to be left"):
            masks.context_and_targets(keys[:2], GRID, **{**SETTINGS, "kept": 0.7})


def test_first_of_takes_true_places_row_by_row_and_says_what_is_missing():
    places, real = masks.first_of(tf.constant([[False, True, True, False, True], [False] * 4 + [True]]), 2)
    assert places[0].numpy().tolist() == [1, 2]
    assert places[1, 0] == 4
    assert real.numpy().tolist() == [[True, True], [True, False]]
