"""Masks of blocks of patches, as BEiT draws them (Bao, Dong, Piao, Wei 2022, arXiv:2106.08254, algorithm 1)."""

import math

import tensorflow as tf

from kzoo.patches import place_blocks
from kzoo.random import bernoulli, fold_in, in_double, uniform

_ASPECT = math.log(10 / 3)  # the logarithm of height / width is uniform in this and its negative
_TRIES = 10


def block_mask(
    keys: tf.Tensor, grid: tuple[int, int], most: tf.Tensor, smallest: float, largest: float = math.inf
) -> tf.Tensor:
    """Which patches are hidden, bool `[B, rows * columns]`: blocks, drawn until there are enough.

    A block's area is uniform between `smallest` and what is left, its aspect ratio log-uniform in 0.3 to 3.3, its place
    uniform. It must be less high and less wide than the grid, hide something new, and no more than is left. An image is
    done when as many patches are hidden as there should be, or ten blocks in a row did not fit.

    Args:
        keys: int64 `[B]`. grid: rows and columns. most: float `[B]`, the most patches to hide of each image.
        smallest, largest: of the area that is drawn.
    """
    rows, columns = grid

    def left(hidden: tf.Tensor) -> tf.Tensor:
        return most - tf.reduce_sum(tf.cast(hidden, tf.float32), axis=(1, 2))

    def unfinished(hidden: tf.Tensor, failures: tf.Tensor) -> tf.Tensor:
        return (left(hidden) > 0) & (failures < _TRIES)

    def another(step: tf.Tensor, hidden: tf.Tensor, failures: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        drawn, room = fold_in(keys, step), left(hidden)
        area = tf.maximum(uniform(fold_in(drawn, "area"), (), smallest, tf.minimum(room, largest)), 0.0)
        aspect = in_double(tf.exp, uniform(fold_in(drawn, "aspect"), (), -_ASPECT, _ASPECT))
        height = tf.cast(tf.round(tf.sqrt(area * aspect)), tf.int32)
        width = tf.cast(tf.round(tf.sqrt(area / aspect)), tf.int32)
        inside = tf.reshape(place_blocks(drawn, height, width, grid), [-1, rows, columns])
        new = tf.reduce_sum(tf.cast(inside & ~hidden, tf.float32), axis=(1, 2))
        fits = (height < rows) & (width < columns) & (new > 0) & (new <= room) & unfinished(hidden, failures)
        hidden |= inside & fits[:, None, None]
        return step + 1, hidden, tf.where(fits, 0, failures + 1)

    begun = tf.zeros([tf.shape(keys)[0], rows, columns], tf.bool), tf.zeros_like(keys, tf.int32)
    _, hidden, _ = tf.while_loop(
        lambda step, *state: tf.reduce_any(unfinished(*state)), another, (tf.constant(0), *begun)
    )
    return tf.reshape(hidden, [-1, rows * columns])


def smallest_block(grid: tuple[int, int]) -> float:
    """The least area that is drawn: that of a square of a third of the grid's side, 16 of 14 x 14 patches."""
    return float((min(grid) // 3) ** 2)


def mask_one_of_two(keys: tf.Tensor, grid: tuple[int, int], shares: tuple[float, float]) -> dict[str, tf.Tensor]:
    """Masks for two views of each image, of which one has any (DINOv2); a share of its patches is hidden, in blocks.

    Returns "hidden", bool `[2B, T]`, of all views; "view", int `[B]`, which of the two is masked; and of it "places",
    int `[B, m]`, the numbers of the most patches that may be hidden, those that are first, and "counted", which are.
    """
    count = grid[0] * grid[1]
    share = uniform(fold_in(keys, "share"), (), *shares)
    hidden = block_mask(keys, grid, share * count, smallest=4.0, largest=count / 2)
    view = tf.cast(bernoulli(fold_in(keys, "view"), 0.5), tf.int32)
    of_both = (tf.range(2)[None] == view[:, None])[..., None] & hidden[:, None]
    places = tf.argsort(tf.cast(~hidden, tf.int32), stable=True)[:, : max(1, int(shares[1] * count))]
    counted = tf.gather(hidden, places, batch_dims=1)
    return {"hidden": tf.reshape(of_both, [-1, count]), "view": view, "places": places, "counted": counted}


def at_places(tokens: tf.Tensor, view: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Of the tokens of two views of each image, `[2b, T, D]`, those of one view at some places: `[b, m, D]`."""
    of_views = tf.reshape(tokens, [-1, 2, *tokens.shape[1:]])
    return tf.gather(tf.gather(of_views, view, batch_dims=1), places, batch_dims=1)


def patch_loss(taught: tf.Tensor, said: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
    """The mean cross-entropy at the hidden patches of each view, then over views; one without any counts as 0.

    taught: probabilities, `[n, T, K]`. said: log-probabilities. hidden: bool `[n, T]`.
    """
    weights = tf.cast(hidden, said.dtype)
    crossed = -tf.reduce_sum(taught * said, axis=-1)
    counts = tf.maximum(tf.reduce_sum(weights, axis=1), 1.0)
    return tf.reduce_mean(tf.reduce_sum(weights * crossed, axis=1) / counts)
