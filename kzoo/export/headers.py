"""What the header of a JPEG or PNG file says, read inside a TensorFlow graph: its size, how it is turned, its faults.

TensorFlow's decoders read pixels only. They know no orientation, and answer for files that end early.
"""

from typing import NamedTuple

import tensorflow as tf

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_XMP = b"XML:com.adobe.xmp\0"
_ORIENTATION = 0x0112  # in the first directory of EXIF
_SHORT, _LONG = 3, 4  # types of EXIF values
_OTHERS = {  # first bytes → the format's name
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
}


class Header(NamedTuple):
    """Scalar tensors, apart from `sides`.

    sides: int64 [2], (height, width) as stored. orientation: int32, 1 to 8, of EXIF. problem: why the file cannot be
    used, a string; "" where nothing is wrong. jpeg: bool, else PNG. depth: int32, bits of a value.
    transparent, grey: bool.
    """

    sides: tf.Tensor
    orientation: tf.Tensor
    problem: tf.Tensor
    jpeg: tf.Tensor
    depth: tf.Tensor
    transparent: tf.Tensor
    grey: tf.Tensor


class _Walk(NamedTuple):
    """Where a walk through the segments of a file stands. Places are int64 [2]: (first byte, length), (0, 0) = none.

    position: the next segment. image: where a JPEG's pixels begin, 0 = not yet. ended: whether PNG's last segment was
    met. told: bool, whether an orientation is written in a way that is not read here. transparent: bool.
    """

    position: tf.Tensor
    exif: tf.Tensor
    xmp: tf.Tensor
    image: tf.Tensor
    ended: tf.Tensor
    told: tf.Tensor
    transparent: tf.Tensor


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def read_header(file: tf.Tensor) -> Header:
    """Of a string scalar, whatever it holds. Nothing is decoded. Traced once, whatever it is a part of."""
    is_png, is_jpeg = _starts(file, PNG), _starts(file, JPEG)
    return tf.switch_case(
        tf.where(is_png, 0, tf.where(is_jpeg, 1, 2)), [lambda: _png(file), lambda: _jpeg(file), lambda: _unknown(file)]
    )


def _unknown(file: tf.Tensor) -> Header:
    name = tf.constant("not a JPEG or PNG file")
    for start, known in _OTHERS.items():
        name = tf.where(_starts(file, start), f"a {known} file", name)
    name = tf.where(tf.strings.substr(_padded(file), 8, 4) == b"WEBP", "a WebP file", name)
    name = tf.where(tf.strings.substr(_padded(file), 4, 4) == b"ftyp", "an AVIF, HEIC or film file", name)
    name = tf.where(tf.strings.length(file) == 0, "an empty file", name)
    return _header(problem=tf.strings.join([name, "; send a JPEG or PNG file"]))


def _header(**known: tf.Tensor) -> Header:
    """Other fields are those of an upright, opaque image of 8 bits."""
    fields = {
        "sides": tf.zeros([2], tf.int64),
        "orientation": tf.constant(1),
        "problem": tf.constant(""),
        "jpeg": tf.constant(True),
        "depth": tf.constant(8),
        "transparent": tf.constant(False),
        "grey": tf.constant(False),
    }
    return Header(**{**fields, **known})


# ---- JPEG ------------------------------------------------------------------------------------------------------------


def _jpeg(file: tf.Tensor) -> Header:
    data = tf.io.decode_raw(file, tf.uint8)
    size = tf.size(data, tf.int64)

    def step(at: _Walk) -> tuple[_Walk]:
        marker = tf.cast(data[at.position + 1], tf.int32)
        length = _number(data, at.position + 2, 2)
        body = at.position + 4
        is_segment = (data[at.position] == 0xFF) & (marker != 0xFF)
        alone = (marker == 0x01) | ((marker >= 0xD0) & (marker <= 0xD8))  # markers without a body
        here = tf.stack([body, length - 2])
        application = is_segment & (marker == 0xE1) & (body + length - 2 <= size)
        is_exif = application & _holds(data, body, _EXIF) & (at.exif[0] == 0)
        is_xmp = application & _holds(data, body, _XMP)  # the last counts
        pixels = is_segment & (marker == 0xDA)
        onward = tf.where(marker == 0xFF, at.position + 1, tf.where(alone, at.position + 2, body + length - 2))
        broken = data[at.position] != 0xFF
        return (
            at._replace(
                position=tf.where(broken, size, onward),
                exif=tf.where(is_exif, here, at.exif),
                xmp=tf.where(is_xmp, here, at.xmp),
                image=tf.where(pixels, body, at.image),
            ),
        )

    [at] = tf.while_loop(lambda at: (at.position + 4 <= size) & (at.image == 0), step, [_start(2)])
    # Inside the pixels' data a byte 255 is followed by 0 or a restart: this pair can only be the end of the image.
    rest = data[at.image :]
    ended = (at.image > 0) & tf.reduce_any((rest[:-1] == 0xFF) & (rest[1:] == 0xD9))
    orientation, unread = _orientation(data, at)
    shape = tf.cond(ended, lambda: tf.io.extract_jpeg_shape(file), lambda: tf.zeros([3], tf.int32))
    problem = _first(
        (~ended, "a JPEG file whose data ends early"),
        ((shape[2] != 1) & (shape[2] != 3), "a CMYK JPEG file; convert it to RGB"),
        (unread, "a JPEG file with EXIF data that cannot be read; turn it upright and leave EXIF out"),
    )
    return _header(sides=tf.cast(shape[:2], tf.int64), orientation=orientation, problem=problem)


# ---- PNG -------------------------------------------------------------------------------------------------------------


def _png(file: tf.Tensor) -> Header:
    data = tf.io.decode_raw(file, tf.uint8)
    size = tf.size(data, tf.int64)

    def step(at: _Walk) -> tuple[_Walk]:
        length = _number(data, at.position, 4)
        kind, body = at.position + 4, at.position + 8
        here = tf.stack([body, length])
        is_text = tf.reduce_any([_holds(data, kind, name) for name in (b"tEXt", b"iTXt", b"zTXt")])
        is_xmp = is_text & _holds(data, body, _PNG_XMP)
        packed = _holds(data, kind, b"zTXt") | (_holds(data, kind, b"iTXt") & _holds(data, body + 18, b"\1"))
        return (
            at._replace(
                position=body + length + 4,
                exif=tf.where(_holds(data, kind, b"eXIf"), here, at.exif),
                xmp=tf.where(is_xmp, here, at.xmp),
                ended=_holds(data, kind, b"IEND"),
                told=at.told | (is_xmp & packed) | (is_text & _holds(data, body, b"Raw profile type exif")),
                transparent=at.transparent | _holds(data, kind, b"tRNS"),
            ),
        )

    [at] = tf.while_loop(lambda at: (at.position + 12 <= size) & ~at.ended, step, [_start(8)])
    named = _holds(data, tf.constant(12, tf.int64), b"IHDR")
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(_padded(file), 16, 10), tf.uint8), tf.int64)
    weights = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    sides = tf.where(named, tf.reduce_sum(tf.reshape(header[:8], [2, 4]) * weights, 1)[::-1], 0)
    depth, colour = tf.cast(header[8], tf.int32), tf.cast(header[9], tf.int32)
    orientation, unread = _orientation(data, at)
    key = at.transparent & (colour != 3)  # one colour that stands for transparent
    problem = _first(
        (~at.ended, "a PNG file whose data ends early"),
        (key & (depth != 8), "a PNG file with a transparent colour that has not 8 bits; give it an alpha channel"),
        (unread | at.told, "a PNG file with EXIF data that cannot be read; turn it upright and leave EXIF out"),
    )
    return Header(sides, orientation, problem, tf.constant(False), depth, at.transparent | (colour >= 4), colour == 0)


# ---- how an image is turned ------------------------------------------------------------------------------------------


def _orientation(data: tf.Tensor, at: _Walk) -> tuple[tf.Tensor, tf.Tensor]:
    """1 to 8 as EXIF numbers them, else as XMP does, and whether there is EXIF that cannot be read."""
    exif = data[at.exif[0] : at.exif[0] + at.exif[1]]
    nothing = tf.constant(0), tf.constant(False)
    for _ in range(2):  # PNG's chunk needs no heading and sometimes has one
        exif = tf.cond(
            _holds(exif, tf.constant(0, tf.int64), _EXIF), lambda exif=exif: exif[6:], lambda exif=exif: exif
        )
    stated, unread = tf.cond(tf.size(exif) > 0, lambda: _of_exif(exif), lambda: nothing)
    xmp = data[at.xmp[0] : at.xmp[0] + at.xmp[1]]
    stated = tf.cond((stated == 0) & (tf.size(xmp) > 0), lambda: _of_xmp(xmp), lambda: stated)
    return tf.where((stated >= 1) & (stated <= 8), stated, 1), unread


def _of_exif(exif: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The number in its first directory, 0 = none, and whether the directory cannot be read."""
    head = _take(exif, 0, 8)
    little = tf.reduce_all(head[:4] == list(b"II*\0"))
    big = tf.reduce_all(head[:4] == list(b"MM\0*"))

    def number(digits: tf.Tensor) -> tf.Tensor:
        """int64 of the last axis."""
        digits = tf.cast(tf.where(little, digits[..., ::-1], digits), tf.int64)
        return tf.reduce_sum(digits * [256**power for power in reversed(range(digits.shape[-1]))], -1)

    offset = number(head[4:])
    size = tf.size(exif, tf.int64)
    count = number(_take(exif, offset, 2))
    fits = (little | big) & (offset + 2 + 12 * count <= size)
    table = tf.reshape(exif[offset + 2 : offset + 2 + tf.where(fits, 12 * count, 0)], [-1, 12])
    chosen = tf.boolean_mask(table, number(table[:, :2]) == _ORIENTATION)
    first = tf.concat([chosen, tf.zeros([1, 12], tf.uint8)], 0)[0]
    kind = number(first[2:4])
    value = tf.where(kind == _SHORT, number(first[8:10]), number(first[8:12]))
    usual = ((kind == _SHORT) | (kind == _LONG)) & (number(first[4:8]) == 1)
    unread = ~fits | (tf.shape(chosen)[0] > 1) | ((tf.shape(chosen)[0] == 1) & ~usual)
    # Another number than 1 to 8 turns nothing, and still keeps XMP from being asked.
    stated = tf.cast(tf.where((value >= 1) & (value <= 8), value, 1), tf.int32)
    return tf.where(tf.shape(chosen)[0] > 0, stated, 0), unread


def _of_xmp(xmp: tf.Tensor) -> tf.Tensor:
    """The first digit after tiff:Orientation, as an attribute or an element; 0 = none."""
    texts = [b'tiff:Orientation="', b"tiff:Orientation>"]
    longest = len(texts[0]) + 1  # with the digit
    windows = tf.gather(
        tf.concat([xmp, tf.zeros([longest], tf.uint8)], 0), tf.range(tf.size(xmp))[:, None] + tf.range(longest)
    )
    digits = tf.stack([tf.cast(windows[:, len(text)], tf.int32) - ord("0") for text in texts])
    found = tf.stack([tf.reduce_all(windows[:, : len(text)] == list(text), 1) for text in texts])
    digits = tf.where(found & (digits >= 0) & (digits <= 9), digits, -1)
    stated = tf.reduce_max(digits, 0)  # at a place there is one of the texts at most
    return tf.concat([tf.boolean_mask(stated, stated >= 0), [0]], 0)[0]


# ---- bytes -----------------------------------------------------------------------------------------------------------


def _start(position: int) -> _Walk:
    none, no = tf.zeros([2], tf.int64), tf.constant(False)
    return _Walk(tf.constant(position, tf.int64), none, none, tf.constant(0, tf.int64), no, no, no)


def _first(*cases: tuple[tf.Tensor, str]) -> tf.Tensor:
    """The text of the first case that holds, else ""."""
    text = tf.constant("")
    for holds, problem in reversed(cases):
        text = tf.where(holds, problem, text)
    return text


def _padded(file: tf.Tensor) -> tf.Tensor:
    """Long enough for `substr`, which refuses places beyond the end."""
    return tf.strings.join([file, b"\0" * 32])


def _starts(file: tf.Tensor, start: bytes) -> tf.Tensor:
    return tf.strings.substr(file, 0, len(start)) == start


def _holds(data: tf.Tensor, at: tf.Tensor, text: bytes) -> tf.Tensor:
    """Whether the bytes have `text` at a place, which may lie beyond their end."""
    return (at + len(text) <= tf.size(data, tf.int64)) & tf.reduce_all(_take(data, at, len(text)) == list(text))


def _take(data: tf.Tensor, at: tf.Tensor | int, count: int) -> tf.Tensor:
    """So many bytes from a place on, zeros beyond their end."""
    return tf.ensure_shape(tf.concat([data[at : at + count], tf.zeros([count], tf.uint8)], 0)[:count], [count])


def _number(data: tf.Tensor, at: tf.Tensor, digits: int) -> tf.Tensor:
    """int64, the most significant byte first."""
    weights = [256**power for power in reversed(range(digits))]
    return tf.reduce_sum(tf.cast(_take(data, at, digits), tf.int64) * weights)
