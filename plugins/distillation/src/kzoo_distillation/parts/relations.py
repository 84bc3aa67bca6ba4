"""What two crops share, and how features at its points relate to each other (SERE)."""

import tensorflow as tf


def shared_points(boxes: tf.Tensor, points: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Where a grid of points in the overlap of two crops lies in each of them.

    Args:
        boxes: of both crops of each image, float `[b, 2, 5]`: top, left, height, width, and 1 where it is mirrored.
        points: of a side of the grid.

    Returns:
        places, float `[b, 2, 2, points]`: of each crop the rows and the columns of the grid, as shares of its sides;
        and whether there is an overlap, bool `[b]`.
    """
    start, size, mirrored = boxes[..., :2], boxes[..., 2:4], boxes[..., 4:]
    first = tf.reduce_max(start, axis=1)  # [b, 2]: row, column
    extent = tf.reduce_min(start + size, axis=1) - first
    steps = (tf.range(points, dtype=boxes.dtype) + 0.5) / points
    inside = first[..., None] + extent[..., None] * steps  # [b, 2, points], in pixels of the image
    places = (inside[:, None] - start[..., None]) / size[..., None]
    columns = tf.where(mirrored > 0, 1.0 - places[:, :, 1], places[:, :, 1])
    return tf.stack([places[:, :, 0], columns], axis=2), tf.reduce_all(extent > 0, axis=1)


def sampled(tokens: tf.Tensor, grid: tuple[int, int], places: tf.Tensor) -> tf.Tensor:
    """Features between tokens `[n, T, D]`, bilinear, at a grid of places `[n, 2, p]`: `[n, p * p, D]`."""

    def weights(shares: tf.Tensor, length: int) -> tf.Tensor:
        position = tf.clip_by_value(shares * length - 0.5, 0.0, length - 1.0)
        near = 1.0 - tf.abs(position[..., None] - tf.range(length, dtype=shares.dtype))
        return tf.cast(tf.nn.relu(near), tokens.dtype)

    features = tf.reshape(tokens, [-1, *grid, tokens.shape[-1]])
    rows = tf.einsum("npr,nrcd->npcd", weights(places[:, 0], grid[0]), features)
    both = tf.einsum("nqc,npcd->npqd", weights(places[:, 1], grid[1]), rows)
    return tf.reshape(both, [-1, places.shape[-1] ** 2, tokens.shape[-1]])


def spatial_relations(z: tf.Tensor, heads: int) -> tf.Tensor:
    """Dot products of all points of `[n, P, D]` in each of some groups of features, over sqrt(D / heads):
    `[n, heads, P, P]`."""
    cut = tf.reshape(z, [-1, z.shape[1], heads, z.shape[2] // heads])
    return tf.einsum("nphd,nqhd->nhpq", cut, cut) * (z.shape[2] // heads) ** -0.5


def channel_relations(z: tf.Tensor) -> tf.Tensor:
    """Mean products of all pairs of features of `[n, P, D]` over the points: `[n, D, D]`."""
    return tf.einsum("npc,npd->ncd", z, z) / z.shape[1]


def relation_loss(taught: tf.Tensor, said: tf.Tensor, temperature: float) -> tf.Tensor:
    """The mean cross-entropy of each example's rows, `[n]`; the teacher's are sharpened by a temperature."""
    crossed = -tf.reduce_sum(tf.nn.softmax(taught / temperature) * tf.nn.log_softmax(said), axis=-1)
    return tf.reduce_mean(tf.reshape(crossed, [tf.shape(crossed)[0], -1]), axis=1)
