"""Rectangles of places that are hidden, drawn for each clip from its key."""

import tensorflow as tf

from kzoo.patches import place_blocks
from kzoo.random import fold_in, permutation, uniform

_TRIES = 8  # drawings of which the first is taken that leaves enough


def block(keys: tf.Tensor, grid: tuple[int, int], share: float, aspect: tuple[float, float]) -> tf.Tensor:
    """A rectangle of a share of the places, height / width uniform in `aspect`, anywhere: bool `[B, h * w]`."""
    area = share * grid[0] * grid[1]
    ratio = uniform(fold_in(keys, "aspect"), (), *aspect)
    sides = (tf.sqrt(area * ratio), tf.sqrt(area / ratio))
    heights, widths = (
        tf.clip_by_value(tf.cast(tf.round(side), tf.int32), 1, most) for side, most in zip(sides, grid, strict=True)
    )
    return place_blocks(keys, heights, widths, grid)


def hidden_places(
    keys: tf.Tensor, grid: tuple[int, int], blocks: int, share: float, aspect: tuple[float, float], least: int
) -> tf.Tensor:
    """The union of some blocks, bool `[B, h * w]`. Where it leaves fewer than `least` places all are drawn anew, the
    last time one block alone.
    """
    drawn = []
    for number in range(_TRIES):
        own = fold_in(keys, number)
        count = blocks if number < _TRIES - 1 else 1
        some = [block(fold_in(own, f"block_{i}"), grid, share, aspect) for i in range(count)]
        drawn.append(tf.reduce_any(tf.stack(some), axis=0))
    every = tf.stack(drawn, axis=1)
    enough = tf.reduce_sum(tf.cast(~every, tf.int32), axis=2) >= least
    return tf.gather(every, tf.argmax(tf.cast(enough, tf.int32), axis=1, output_type=tf.int32), batch_dims=1)


def some_of(keys: tf.Tensor, mask: tf.Tensor, count: int) -> tf.Tensor:
    """The numbers of `count` true places of bool `[B, n]`, at random, in rising order: int32 `[B, count]`."""
    order = permutation(keys, mask.shape[1])
    first = tf.argsort(tf.where(tf.gather(mask, order, batch_dims=1), 0, 1), axis=1, stable=True)[:, :count]
    return tf.sort(tf.gather(order, first, batch_dims=1), axis=1)
