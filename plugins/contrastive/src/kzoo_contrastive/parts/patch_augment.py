"""What CPC v2 does to each patch by itself (Hénaff et al. 2020, section 3 and appendix A).

In this order: flip; the shape primitives, elastic deformation and shearing, as one affine resampling and, for the
deformed, a second; the colour primitives; colour jitter; greyscale; colour dropping. The paper applies its primitives
in random order, and has two more: AutoAugment's equalisation, and changes of the colour histogram.
"""

import math

import numpy as np
import tensorflow as tf

from kzoo import augment
from kzoo.random import bernoulli, fold_in, integers, normal, permutation, uniform
from kzoo_contrastive.specs.cpc_v2 import PatchOptions

# AutoAugment's (Cubuk et al. 2019, table 6), without those that act on the histogram or on other images
SHAPE = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
COLOUR = ("autocontrast", "solarize", "posterize", "contrast", "color", "brightness", "sharpness")
PRIMITIVES = SHAPE + COLOUR


def augment_patches(patches: tf.Tensor, keys: tf.Tensor, options: PatchOptions) -> tf.Tensor:
    """Change each patch `[n, p, p, C]`, float in [0, 1], by its own key, int64 `[n]`."""
    chosen = draw_primitives(keys, options.primitives)
    patches = augment.horizontal_flip(patches, keys, options.flip)
    patches = warp(patches, keys, chosen, options.warp_p)
    patches = recolour(patches, keys, chosen)
    patches = augment.color_jitter(patches, keys, *options.jitter, p=options.jitter_p)
    patches = augment.greyscale(patches, keys, options.greyscale_p)
    return drop_colours(patches, keys, options.drop_p)


def draw_primitives(keys: tf.Tensor, count: int) -> dict[str, tf.Tensor]:
    """Which patches each primitive acts on, bool `[n]`: `count` different ones for every patch."""
    order = permutation(fold_in(keys, "primitives"), len(PRIMITIVES))
    return {name: order[:, index] < count for index, name in enumerate(PRIMITIVES)}


def warp(patches: tf.Tensor, keys: tf.Tensor, chosen: dict[str, tf.Tensor], warp_p: float) -> tf.Tensor:
    """Shear (up to 0.3), shift (up to 0.45 of the side), turn (up to 30 degrees), and deform; mirrored at the edges."""
    side = patches.shape[1]
    deformed = bernoulli(fold_in(keys, "warp"), warp_p)

    def amount(name: str, largest: float) -> tf.Tensor:
        return tf.where(chosen[name], uniform(fold_in(keys, name), (), -largest, largest), 0.0)

    more = tf.where(deformed[:, None], uniform(fold_in(keys, "shear"), (2,), -0.3, 0.3), 0.0)
    shear_x, shear_y = amount("shear_x", 0.3) + more[:, 0], amount("shear_y", 0.3) + more[:, 1]
    angle = amount("rotate", math.pi / 6)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # where each pixel comes from: turned and sheared about the centre, then shifted
    a, b = cos - sin * shear_y, cos * shear_x - sin
    c, d = sin + cos * shear_y, sin * shear_x + cos
    centre = (side - 1) / 2
    right = centre - a * centre - b * centre + side * amount("translate_x", 0.45)
    down = centre - c * centre - d * centre + side * amount("translate_y", 0.45)
    nothing = tf.zeros_like(a)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=patches,
        transforms=tf.stack([a, b, right, c, d, down, nothing, nothing], axis=1),
        output_shape=[side, side],
        interpolation="BILINEAR",
        fill_mode="REFLECT",
        fill_value=0.0,
    )
    indices = tf.where(deformed)
    some = elastic(tf.gather_nd(moved, indices), tf.gather_nd(keys, indices))
    return tf.tensor_scatter_nd_update(moved, indices, some)


def elastic(patches: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Displace the pixels by a smooth random field (Simard et al. 2003): 3x3 normal vectors of 1/20 of the side."""
    side = patches.shape[1]
    field = normal(fold_in(keys, "elastic"), (3, 3, 2)) * side / 20
    place = tf.stack(tf.meshgrid(tf.range(side), tf.range(side), indexing="ij"), axis=-1)
    at = tf.clip_by_value(tf.cast(place, tf.float32) + tf.image.resize(field, [side, side]), 0.0, side - 1.0)
    low = tf.minimum(tf.cast(at, tf.int32), side - 2)
    share = at - tf.cast(low, tf.float32)
    result = tf.zeros_like(patches)
    for row in (0, 1):
        for column in (0, 1):
            weight = tf.abs(1 - row - share[..., :1]) * tf.abs(1 - column - share[..., 1:])
            result += weight * tf.gather_nd(patches, low + np.array([row, column], "int32"), batch_dims=1)
    return result


def recolour(patches: tf.Tensor, keys: tf.Tensor, chosen: dict[str, tf.Tensor]) -> tf.Tensor:
    """The colour primitives: factors of 0.1 to 1.9, thresholds of 0 to 1, 4 to 8 bits."""

    def factor(name: str) -> tf.Tensor:
        return tf.where(chosen[name], uniform(fold_in(keys, name), (), 0.1, 1.9), 1.0)

    def where(name: str, changed: tf.Tensor, unchanged: tf.Tensor) -> tf.Tensor:
        return tf.where(chosen[name][:, None, None, None], changed, unchanged)

    factors = augment.Jitter(factor("brightness"), factor("contrast"), factor("color"), tf.zeros(tf.shape(keys)))
    x = augment.jitter(patches, factors)
    low, high = (reduce(x, axis=[1, 2], keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    x = where("autocontrast", (x - low) / tf.maximum(high - low, 1 / 255), x)
    threshold = uniform(fold_in(keys, "solarize"))[:, None, None, None]
    x = where("solarize", tf.where(x >= threshold, 1 - x, x), x)
    levels = tf.cast(2 ** integers(fold_in(keys, "posterize"), (), 4, 9), tf.float32)[:, None, None, None]
    x = where("posterize", tf.minimum(tf.floor(x * levels), levels - 1) / (levels - 1), x)
    smooth = tf.nn.avg_pool2d(x, 3, 1, "SAME")
    sharpened = smooth + factor("sharpness")[:, None, None, None] * (x - smooth)
    return where("sharpness", tf.clip_by_value(sharpened, 0.0, 1.0), x)


def drop_colours(patches: tf.Tensor, keys: tf.Tensor, p: float) -> tf.Tensor:
    """With probability p, keep one of the three channels and set the others to 0. Grey patches stay as they are."""
    if patches.shape[3] == 1:
        return patches
    kept = tf.one_hot(integers(fold_in(keys, "kept"), (), 0, 3), 3)
    dropped = bernoulli(fold_in(keys, "drop"), p)
    return patches * tf.where(dropped[:, None], kept, np.ones(3, "float32"))[:, None, None]
