"""A camera that moves: its pose, and where the pixels of one picture lie in another."""

import numpy as np
import tensorflow as tf


def depth_of(disparity: tf.Tensor, nearest: float = 0.1, farthest: float = 100.0) -> tf.Tensor:
    """From a sigmoid in [0, 1] to depth: 1 is the nearest, 0 the farthest, and 1 / depth is linear between."""
    return 1.0 / (1.0 / farthest + (1.0 / nearest - 1.0 / farthest) * disparity)


def pose_matrix(turn: tf.Tensor, move: tf.Tensor, invert: bool = False) -> tf.Tensor:
    """`[B, 4, 4]`: x -> R x + move, or its inverse. turn: `[B, 3]`, the axis, as long as the angle in radians."""
    squared = tf.reduce_sum(tf.square(turn), axis=-1)[:, None, None]
    angle = tf.sqrt(tf.maximum(squared, 1e-12))
    x, y, z = tf.unstack(turn, axis=-1)
    zero = tf.zeros_like(x)
    cross = tf.stack([tf.stack([zero, -z, y], -1), tf.stack([z, zero, -x], -1), tf.stack([-y, x, zero], -1)], axis=1)
    first, second = tf.sin(angle) / angle, 2.0 * tf.square(tf.sin(angle / 2.0) / angle)
    rotation = tf.eye(3, dtype=turn.dtype) + first * cross + second * tf.matmul(cross, cross)  # Rodrigues
    if invert:
        rotation = tf.transpose(rotation, [0, 2, 1])
        move = -tf.linalg.matvec(rotation, move)
    upper = tf.concat([rotation, move[..., None]], axis=2)
    last = tf.repeat(tf.constant([[[0.0, 0.0, 0.0, 1.0]]], turn.dtype), tf.shape(turn)[0], axis=0)
    return tf.concat([upper, last], axis=1)


def warp(images: tf.Tensor, depth: tf.Tensor, pose: tf.Tensor, intrinsics: tf.Tensor) -> tf.Tensor:
    """What the target camera would see, taken from the pictures of another one.

    images: `[B, H, W, C]`, of the other camera. depth: `[B, H, W]`, of the target. pose: `[B, 4, 4]`, from the target's
    coordinates to the other's. intrinsics: `[B, 4]`, fx, fy, cx, cy as shares of width and height. Bilinear; beyond the
    border the last pixel.
    """
    height, width = images.shape[1:3]
    fx, fy, cx, cy = (value[:, None, None] for value in tf.unstack(intrinsics, axis=-1))
    across = (tf.range(width, dtype=depth.dtype) + 0.5)[None, None] / width
    down = (tf.range(height, dtype=depth.dtype) + 0.5)[None, :, None] / height
    points = tf.stack([(across - cx) / fx * depth, (down - cy) / fy * depth, depth], axis=-1)
    moved = tf.einsum("bij,bhwj->bhwi", pose[:, :3, :3], points) + pose[:, None, None, :3, 3]
    x, y, z = tf.unstack(moved, axis=-1)
    z = tf.maximum(z, 1e-3)  # what lies behind the camera
    return sample(images, (fx * x / z + cx) * width - 0.5, (fy * y / z + cy) * height - 0.5)


def sample(images: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Pictures `[B, H, W, C]` at the places (x, y), in pixels, `[B, h, w]`: bilinear, clipped to the border."""
    height, width, channels = images.shape[1:]
    x, y = tf.clip_by_value(x, 0.0, width - 1.0), tf.clip_by_value(y, 0.0, height - 1.0)
    left, top = (tf.clip_by_value(tf.floor(one), 0.0, size - 2.0) for one, size in ((x, width), (y, height)))
    across, down = (tf.cast(one[..., None], images.dtype) for one in (x - left, y - top))
    first = tf.cast(top, tf.int32) * width + tf.cast(left, tf.int32)
    pixels = tf.reshape(images, [-1, height * width, channels])
    corners = [tf.gather(pixels, first + step, batch_dims=1) for step in (0, 1, width, width + 1)]
    above, below = (one * (1.0 - across) + other * across for one, other in (corners[:2], corners[2:]))
    return above * (1.0 - down) + below * down


def enlarge(maps: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Maps `[B, h, w, C]` at a size (H, W): bilinear between the centres of pixels, as a product with two matrices, so
    that they keep their precision, which `tf.image.resize` does not.
    """
    rows, columns = (
        tf.constant(_between(few, many), maps.dtype) for few, many in zip(maps.shape[1:3], size, strict=True)
    )
    return tf.einsum("ih,jw,bhwc->bijc", rows, columns, maps)


def _between(few: int, many: int) -> np.ndarray:
    """The share that each of some pixels has in each of more, `[many, few]`."""
    places = np.clip((np.arange(many) + 0.5) * few / many - 0.5, 0, few - 1)
    return np.clip(1 - np.abs(places[:, None] - np.arange(few)), 0, 1)
