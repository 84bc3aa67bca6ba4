"""What serving makes of an image file, inside a TensorFlow graph: the pixels that `kzoo.folder.read_image` makes of it.

Training, evaluation and embedding read files with Pillow; an export has to do so with TensorFlow alone. Where the two
cannot agree, the file is refused by name: no picture is embedded as something else.
"""

from typing import Any

import tensorflow as tf

from kzoo.data.resize import resize_bytes, to_float
from kzoo.export.headers import Header, read_header
from kzoo.folder.images import MID_GREY

MAX_SIDE = 4096  # pixels: a file of a few hundred kilobytes can ask for gigabytes, so its header is read first
_LUMA = (19595, 38470, 7471)  # of 65536: Pillow's brightness of red, green and blue (ITU-R 601-2)


def decode_file(file: tf.Tensor, size: tuple[int, int, int], bits: int = 16) -> tf.Tensor:
    """One JPEG or PNG file, a string scalar, as float32 pixels `size` in [0, 1], upright.

    They are the pixels of `kzoo.folder.read_image`: turned as EXIF says, transparency on mid-grey, grey or colour as
    `size` asks, the central square resized. A size that is not square takes pictures of exactly that size.
    bits: that grey values wider than 8 bits use, as for `read_image`.
    InvalidArgumentError for any other file, told from its header before anything is decoded.
    """
    height, width, channels = size
    header = read_header(file)
    sides = tf.where(header.orientation >= 5, header.sides[::-1], header.sides)
    problem = _in_order(
        header.problem,
        _unless(
            tf.reduce_all((sides >= 1) & (sides <= MAX_SIDE)),
            f"sides must be 1 to {MAX_SIDE} pixels. Received: {{}}",
            sides,
        ),
        # only square sizes are ever resized to; another is that of the dataset's own images
        _unless(
            tf.reduce_all(sides == [height, width]) | (height == width),
            f"this backbone takes pictures of {height} x {width} pixels. Received: {{}}",
            sides,
        ),
    )
    file = require(problem == "", file, tf.strings.join(["image_bytes: ", problem]))
    # TensorFlow's optimizer has been seen to drop the order of a check and what follows it; it cannot drop a value.
    pixels = _turned(_pixels(tf.where(problem == "", file, b""), header, bits), header.orientation)
    if channels == 1:
        values = tf.cast(pixels, tf.int32)
        pixels = tf.cast((tf.reduce_sum(values * _LUMA, -1, keepdims=True) + 32768) // 65536, tf.uint8)
    if height == width:
        pixels = resize_bytes(pixels, height)
    return to_float(tf.ensure_shape(pixels, size))


def require(condition: tf.Tensor, value: tf.Tensor, *message: Any) -> tf.Tensor:
    """`value`, unusable before `condition` was found true; InvalidArgumentError with `message` otherwise."""
    with tf.control_dependencies([tf.debugging.Assert(condition, list(message))]):
        return tf.identity(value)  # without the dependency TensorFlow may decode first and check later


def _unless(fine: tf.Tensor, text: str, sides: tf.Tensor) -> tf.Tensor:
    return tf.where(fine, "", tf.strings.format(text, sides))


def _in_order(*problems: tf.Tensor) -> tf.Tensor:
    """The first that is not ""."""
    first = problems[0]
    for other in problems[1:]:
        first = tf.where(first == "", other, first)
    return first


def _pixels(file: tf.Tensor, header: Header, bits: int) -> tf.Tensor:
    """uint8 `[H, W, 3]`, as the file stores them."""

    def jpeg() -> tf.Tensor:
        return tf.io.decode_jpeg(file, 3, dct_method="INTEGER_ACCURATE")  # as Pillow; TensorFlow's own is a faster one

    def opaque() -> tf.Tensor:
        return tf.io.decode_png(file, 3)

    def transparent() -> tf.Tensor:
        values = tf.cast(tf.io.decode_png(file, 4), tf.int32)
        colour, alpha = values[..., :3], values[..., 3:]
        return tf.cast((colour * alpha + MID_GREY * (255 - alpha) + 127) // 255, tf.uint8)

    def wide() -> tf.Tensor:
        top = 2**bits - 1
        values = tf.cast(tf.io.decode_png(file, 1, tf.uint16), tf.int64)
        return tf.repeat(tf.cast((tf.minimum(values, top) * 255 + top // 2) // top, tf.uint8), 3, -1)

    is_wide = header.grey & (header.depth == 16)
    kind = tf.where(header.jpeg, 0, tf.where(is_wide, 3, tf.where(header.transparent, 2, 1)))
    return tf.ensure_shape(tf.switch_case(kind, [jpeg, opaque, transparent, wide]), [None, None, 3])


def _turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Upright, from the orientation that EXIF numbers 1 to 8."""

    def turned(swap: bool, axes: list[int]) -> tf.Tensor:
        return tf.reverse(tf.transpose(image, [1, 0, 2]) if swap else image, axes)

    ways = [(False, []), (False, [1]), (False, [0, 1]), (False, [0])]
    ways += [(True, []), (True, [1]), (True, [0, 1]), (True, [0])]
    upright = tf.switch_case(orientation - 1, [lambda way=way: turned(*way) for way in ways])
    return tf.ensure_shape(upright, [None, None, 3])
