"""One image of each, from a box of it: crop, mirror, resize, blur, recolour, in whatever order and form is cheapest."""

import tensorflow as tf

from kzoo.augment.at_once import mean_in_box, sample_batch
from kzoo.augment.linear import GaussianBlur, LinearColour
from kzoo.augment.one_by_one import render_one_by_one
from kzoo.augment.pixels import clip, per_image, pixel_step, sides

# The largest side, in pixels, at which crops are batched matrix products. Above it their cost, which grows with the
# third power of the side, exceeds that of a loop over images.
_DENSE_SIDE = 64


def render(
    images: tf.Tensor,
    boxes: tf.Tensor,
    flip: tf.Tensor,
    size: int | tuple[int, int],
    colour: LinearColour | None = None,
    blur: GaussianBlur | None = None,
) -> tf.Tensor:
    """Crop, mirror, resize, blur and recolour, then clip to [0, 1]: float32 `[B, *size, C]`.

    Small images all at once; large ones one by one, while they are in the processor's cache.
    """
    images, size = tf.convert_to_tensor(images), sides(size)
    unit = pixel_step(images)
    colour = None if colour is None else LinearColour(colour.matrix * unit, colour.pivot * unit)

    if all(side is not None and side <= _DENSE_SIDE for side in (*images.shape[1:3], *size)):
        views = sample_batch(images, boxes, flip, size, blur)
        if colour is None:
            return clip(views * unit)
        shift = tf.reduce_sum(colour.pivot * mean_in_box(tf.cast(images, tf.float32), boxes), axis=1)
        return clip(tf.einsum("nhwc,ndc->nhwd", views, colour.matrix) + per_image(shift))

    return render_one_by_one(images, boxes, flip, size, colour, blur)
