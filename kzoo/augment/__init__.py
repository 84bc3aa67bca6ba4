"""Batched, stateless augmentation in TensorFlow: `f(images, keys, ...) -> images`, parameters drawn per example.

Images are `[B, H, W, C]` with C 1 (grey) or 3 (RGB): float32 in [0, 1], or uint8, which is scaled to [0, 1] first.
The result is float32 in [0, 1]. `keys` is int64 `[B]` (see `kzoo.random`): each function draws from a stream of its
own, so the same keys serve a whole chain of different functions; to use one function twice, or to make a second view,
derive keys with `fold_in`. A probability p is the chance that an example is changed at all.

Most functions come in two parts: `draw_...(keys, ...)` gives the parameters, and a function of the images and those
parameters does the work.

One fact makes it fast: cropping, resizing, flipping, blurring and changing colour are all linear in the pixels. So
`view` does them together, in whatever order and form is cheapest, and clips once.
"""

from kzoo.augment.blurring import BlurKernel, blur, blur_radius, draw_blur, gaussian_blur
from kzoo.augment.boxes import draw_crops, draw_flips
from kzoo.augment.colours import (
    LUMINANCE,
    HSVPower,
    Jitter,
    color_jitter,
    draw_greyscale,
    draw_hsv_power,
    draw_jitter,
    greyscale,
    hsv_power,
    hsv_power_jitter,
    jitter,
    solarize,
)
from kzoo.augment.erasing import draw_erasures, erase, patch_mask, random_erasing
from kzoo.augment.geometry import crop, horizontal_flip, pad_crop, random_resized_crop, rotate90, rotations4
from kzoo.augment.pipeline import multi_crop, two_views, view, views
from kzoo.augment.pixels import Range

__all__ = [
    "LUMINANCE",
    "BlurKernel",
    "HSVPower",
    "Jitter",
    "Range",
    "blur",
    "blur_radius",
    "color_jitter",
    "crop",
    "draw_blur",
    "draw_crops",
    "draw_erasures",
    "draw_flips",
    "draw_greyscale",
    "draw_hsv_power",
    "draw_jitter",
    "erase",
    "gaussian_blur",
    "greyscale",
    "horizontal_flip",
    "hsv_power",
    "hsv_power_jitter",
    "jitter",
    "multi_crop",
    "pad_crop",
    "patch_mask",
    "random_erasing",
    "random_resized_crop",
    "rotate90",
    "rotations4",
    "solarize",
    "two_views",
    "view",
    "views",
]
