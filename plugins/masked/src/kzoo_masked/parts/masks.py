"""Rectangles of patches, drawn for each image from its key: what block masks are made of."""

import functools
import math
from typing import NamedTuple

import tensorflow as tf

from kzoo.errors import OptionsError
from kzoo.patches import place_blocks
from kzoo.random import fold_in, permutation, uniform

Range = tuple[float, float]
Grid = tuple[int, int]

_TRIES = 8  # drawings of which the first is taken that leaves enough of the context


def block_sizes(keys: tf.Tensor, grid: Grid, scale: Range, aspect: Range) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of a block, int32 `[B]` each, in patches.

    Its area is int(s T), s uniform in `scale`; height / width uniform in `aspect`; both sides are rounded, at least 1
    and at most the grid's.
    """
    patches = grid[0] * grid[1]
    area = tf.floor(uniform(fold_in(keys, "area"), (), *scale) * patches)
    ratio = uniform(fold_in(keys, "aspect"), (), *aspect)
    sides = tf.sqrt(area * ratio), tf.sqrt(area / ratio)
    heights, widths = (
        tf.clip_by_value(tf.cast(tf.round(side), tf.int32), 1, most) for side, most in zip(sides, grid, strict=True)
    )
    return heights, widths


@functools.cache
def largest_block(grid: Grid, scale: Range, aspect: Range) -> int:
    """The most patches that a block of `block_sizes` can have."""
    area = math.floor(scale[1] * grid[0] * grid[1])
    tallest = round(math.sqrt(area * aspect[1]))
    found = 1
    for height in range(1, tallest + 1):
        ratio = max(aspect[0], (height - 0.5) ** 2 / area)  # the lowest that gives this height has the widest block
        if ratio <= aspect[1]:
            width = round(math.sqrt(area / ratio))
            found = max(found, min(height, grid[0]) * min(max(width, 1), grid[1]))
    return found


@functools.cache
def smallest_block(grid: Grid, scale: Range, aspect: Range) -> int:
    """No block of `block_sizes` has fewer patches."""
    area = max(1, math.floor(scale[0] * grid[0] * grid[1]))
    height, width = (math.floor(math.sqrt(area * ratio) + 0.499) for ratio in (aspect[0], 1 / aspect[1]))
    return min(max(height, 1), grid[0]) * min(max(width, 1), grid[1])


def first_of(mask: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The numbers of the first `count` true places of bool `[..., T]`, row by row: int32 `[..., count]`.

    And which of them are true: where there are fewer, false places make up the rest.
    """
    places = mask.shape[-1]
    order = tf.sort(tf.where(mask, 0, places) + tf.range(places), axis=-1)[..., :count]
    return order % places, order < places


class ContextAndTargets(NamedTuple):
    """context: the numbers of its patches, int32 `[B, k]`. target: those of n blocks, int32 `[B, n, m]`. real: bool
    `[B, n, m]`, false for what fills smaller blocks up to the largest there can be.
    """

    context: tf.Tensor
    target: tf.Tensor
    real: tf.Tensor


def context_and_targets(
    keys: tf.Tensor, grid: Grid, *, context_scale: Range, kept: float, targets: int, scale: Range, aspect: Range
) -> ContextAndTargets:
    """I-JEPA's masks: target blocks of one size, which may overlap, and of a square without them some patches.

    All images keep int(kept T) patches of their context, at random. Where the targets leave fewer, all is drawn anew,
    the last time with all targets in one place.

    Raises: OptionsError if `kept` is more than even these are sure to leave.
    """
    patches = grid[0] * grid[1]
    count, most = max(1, int(kept * patches)), largest_block(grid, scale, aspect)
    sure = smallest_block(grid, context_scale, (1.0, 1.0)) - most
    if count > sure:
        raise OptionsError([f"context: {count} of {grid[0]} x {grid[1]} patches, and only {sure} are sure to be left"])
    batch = tf.shape(keys)[0]
    tries = fold_in(tf.repeat(keys, _TRIES), tf.tile(tf.range(_TRIES), [batch]))
    sizes = block_sizes(fold_in(tries, "target"), grid, scale, aspect)
    blocks = [place_blocks(fold_in(tries, f"target_{number}"), *sizes, grid) for number in range(targets)]
    target = tf.reshape(tf.stack(blocks, axis=1), [-1, _TRIES, targets, patches])
    target = tf.concat([target[:, :-1], tf.repeat(target[:, -1:, :1], targets, axis=2)], axis=1)
    square_keys = fold_in(tries, "context")
    square = place_blocks(square_keys, *block_sizes(square_keys, grid, context_scale, (1.0, 1.0)), grid)
    context = tf.reshape(square, [-1, _TRIES, patches]) & ~tf.reduce_any(target, axis=2)
    enough = tf.reduce_sum(tf.cast(context, tf.int32), axis=2) >= count
    first = tf.argmax(tf.cast(enough, tf.int32), axis=1, output_type=tf.int32)
    context, target = tf.gather(context, first, batch_dims=1), tf.gather(target, first, batch_dims=1)
    order = permutation(fold_in(keys, "kept"), patches)
    numbers, _ = first_of(tf.gather(context, order, batch_dims=1), count)
    return ContextAndTargets(tf.gather(order, numbers, batch_dims=1), *first_of(target, most))
