"""An image file read in a TensorFlow graph, beside the same file read by Pillow for training."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from kzoo.data.resize import resize_bytes
from kzoo.export.parity import photograph
from kzoo.export.preprocess import decode_file
from kzoo.folder.images import read_image

SIZE = 24
PHOTO = photograph().crop((100, 80, 341, 240))  # 241 x 160: the centre lies between two pixels
RANDOM = np.random.default_rng(0)
TIFF_STARTS = {"<": b"II*\0", ">": b"MM\0*"}


def file(image, form, **options):
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


def exif(value, order="<", kind=3, count=1, place=8):
    """EXIF of two entries, the maker and the orientation, written by hand."""
    number = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
    start = (TIFF_STARTS[order] + struct.pack(f"{order}I", place)).ljust(place, b"\0")
    maker = struct.pack(f"{order}HHII", 0x010F, 2, 4, 0)
    return (
        start
        + struct.pack(f"{order}H", 2)
        + maker
        + struct.pack(f"{order}HHI", 0x0112, kind, count)
        + number
        + bytes(4)
    )


def jpeg(data=None, **options):
    return file(PHOTO, "JPEG", **({} if data is None else {"exif": b"Exif\0\0" + data}), **options)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(depth, colour, before=b"", after=b"", interlace=0):
    """Random values of any depth and colour type: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    height, width = 37, 53
    rows = [b"\0" + RANDOM.bytes((width * channels * depth + 7) // 8) for _ in range(height)]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    palette = chunk(b"PLTE", RANDOM.bytes(3 * 2**depth)) if colour == 3 else b""
    body = palette + before + chunk(b"IDAT", zlib.compress(b"".join(rows))) + after
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def interlaced():
    """Adam7 of 8 x 8 grey values: seven small pictures, one after the other."""
    values = RANDOM.integers(0, 256, (8, 8), np.uint8)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in values[y::dy, x::dx])
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def clear(mode):
    image = PHOTO.copy()
    image.putalpha(Image.fromarray(RANDOM.integers(0, 256, (160, 241), np.uint8)))
    return image.convert(mode)


def xmp(text):
    return f"<x:xmpmeta><rdf:Description {text}></x:xmpmeta>".encode()


def xmp_png(packed):
    notes = PngInfo()
    notes.add_itxt("XML:com.adobe.xmp", xmp('tiff:Orientation="5"').decode(), zip=packed)
    return file(PHOTO, "PNG", pnginfo=notes)


def raw_profile():
    notes = PngInfo()
    notes.add_text("Raw profile type exif", "\nexif\n  56\n" + exif(6).hex())
    return file(PHOTO, "PNG", pnginfo=notes)


SERVED = {
    "jpeg": jpeg(),
    "jpeg without subsampling": jpeg(subsampling=0),
    "jpeg with much": jpeg(subsampling=2, quality=20),
    "jpeg of RGB": jpeg(keep_rgb=True),
    "progressive": jpeg(progressive=True),
    "grey jpeg": file(PHOTO.convert("L"), "JPEG"),
    "jpeg with a long profile": jpeg(icc_profile=b"x" * 200_000),
    "jpeg and more behind it": jpeg() + b"\0" * 1000,
    "two pictures": file(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(90)]),
    **{f"exif {value}": jpeg(exif(value)) for value in range(10)},
    **{f"exif {value} of png": png(8, 2, chunk(b"eXIf", exif(value))) for value in (3, 6)},
    "exif behind the pixels of png": png(8, 2, after=chunk(b"eXIf", exif(6))),
    "exif of another byte order": jpeg(exif(6, ">")),
    "exif with a long number": jpeg(exif(8, ">", kind=4)),
    "exif far behind": jpeg(exif(8, place=5000)),
    "exif without content": jpeg(b""),
    "xmp attribute": jpeg(xmp=xmp('tiff:Orientation="6"')),
    "xmp element": jpeg(xmp=xmp('tiff:Orientation="x"><tiff:Orientation>8</tiff:Orientation>')),
    "xmp that exif overrules": jpeg(exif(1), xmp=xmp('tiff:Orientation="6"')),
    "xmp of png": xmp_png(packed=False),
    **{f"png {depth} {colour}": png(depth, colour) for colour in (0, 3) for depth in (1, 2, 4, 8)},
    **{f"png {depth} {colour}": png(depth, colour) for colour in (2, 4, 6) for depth in (8, 16)},
    "png 16 0": png(16, 0),
    "png interlaced": interlaced(),
    "png grey key": png(8, 0, chunk(b"tRNS", b"\0\1")),
    "png colour key": file(PHOTO, "PNG", transparency=PHOTO.getpixel((5, 5))),
    **{f"png clear palette {depth}": png(depth, 3, chunk(b"tRNS", RANDOM.bytes(2**depth))) for depth in (1, 2, 4, 8)},
    "png alpha": file(clear("RGBA"), "PNG"),
    "png grey and alpha": file(clear("LA"), "PNG"),
    "png and more behind it": file(PHOTO, "PNG") + b"more",
    "one pixel": file(PHOTO.resize((1, 1)), "PNG"),
    "tiny": file(PHOTO.resize((2, 3)), "JPEG"),
    "very wide": file(PHOTO.resize((3000, 7)), "PNG"),
    "very high": file(PHOTO.resize((7, 3000)), "JPEG"),
}
UNREAD = "EXIF data that cannot be read"
REFUSED = {
    "cmyk": (file(PHOTO.convert("CMYK"), "JPEG"), "a CMYK JPEG file"),
    **{
        form: (file(PHOTO, form), f"{name} file; send a JPEG or PNG file")
        for form, name in {
            "WEBP": "a WebP",
            "BMP": "a BMP",
            "GIF": "a GIF",
            "TIFF": "a TIFF",
            "JPEG2000": "a JPEG 2000",
            "PPM": "not a JPEG or PNG",
        }.items()
    },
    "avif": (b"\0\0\0\x20ftypavif" + bytes(40), "an AVIF, HEIC or film file"),
    "exif of text": (jpeg(b"no directory at all"), UNREAD),
    "exif cut": (jpeg(exif(6)[:30]), UNREAD),
    "exif of bytes": (jpeg(exif(6, kind=1)), UNREAD),
    "exif of two numbers": (jpeg(exif(6, count=2)), UNREAD),
    "exif as text in png": (raw_profile(), UNREAD),
    "xmp packed": (xmp_png(packed=True), UNREAD),
    **{f"png {depth} key": (png(depth, 0, chunk(b"tRNS", b"\0\1")), "transparent colour") for depth in (1, 2, 4, 16)},
    "png 16 colour key": (png(16, 2, chunk(b"tRNS", b"\0\1" * 3)), "transparent colour"),
    **{
        f"{name} without its last {cut}": (whole[:-cut], f"a {kind} file whose data ends early")
        for name, kind, whole in (
            ("jpeg", "JPEG", jpeg()),
            ("progressive", "JPEG", jpeg(progressive=True)),
            ("turned", "JPEG", jpeg(exif(6))),
            ("png", "PNG", file(PHOTO, "PNG")),
        )
        for cut in (1, 300, len(whole) // 2, len(whole) - 12)
    },
    "jpeg whose preview is whole": (
        jpeg(b"II*\0\x08\0\0\0\0\0" + bytes(4) + jpeg(quality=5)[:9000])[:-200],
        "ends early",
    ),
}


@pytest.fixture(scope="module", params=[3, 1], ids=["colour", "grey"])
def decode(request):
    size = (SIZE, SIZE, request.param)
    return tf.function(lambda data: decode_file(data, size), [tf.TensorSpec([], tf.string)], autograph=False)


def test_a_file_is_read_as_training_reads_it(decode):
    grey = decode.get_concrete_function().structured_outputs.shape[-1] == 1
    for name, data in SERVED.items():
        np.testing.assert_allclose(decode(data) * 255, read_image(data, SIZE, grey), atol=1e-3, err_msg=name)


def test_a_file_that_is_read_otherwise_is_refused_by_name(decode):
    for name, (data, message) in REFUSED.items():
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            decode(data)
        assert "image_bytes: " in str(caught.value), name
        assert message in str(caught.value), name


def test_a_picture_of_another_shape_is_turned_before_its_sides_are_compared():
    decode = tf.function(lambda data: decode_file(data, (12, 20, 3)), autograph=False)
    upright = PHOTO.resize((20, 12))
    stored = file(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=b"Exif\0\0" + exif(6), quality=95)
    np.testing.assert_allclose(decode(stored) * 255, read_image(stored), atol=1e-3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"pictures of 12 x 20 pixels\. Received:.*20 12"):
        decode(file(upright.transpose(Image.Transpose.ROTATE_90), "JPEG"))


@pytest.mark.parametrize(("height", "width"), [(160, 241), (33, 200), (200, 33), (5, 9), (24, 24)])
@pytest.mark.parametrize("size", [8, 24, 64])
def test_the_resize_is_pillows_of_the_central_square(height, width, size):
    """To a larger and to a smaller square, of odd and of even sides; Pillow rounds between the axes."""
    image = PHOTO.resize((width, height))
    pillow = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)).astype(int)
    received = read_image(file(image, "PNG"), size)
    assert np.abs(received - pillow).max() <= 1
    np.testing.assert_array_equal(resize_bytes(tf.constant(np.asarray(image)), size), received)


@pytest.mark.parametrize("bits", [12, 16])
def test_wide_grey_values_use_the_bits_that_training_found(bits):
    """The white of a camera's 12 bits in 16 is 4095."""
    data = file(Image.fromarray(np.full((8, 8), 2**bits - 1, np.uint16)), "PNG")
    np.testing.assert_array_equal(decode_file(tf.constant(data), (8, 8, 1), bits), np.ones((8, 8, 1)))
    np.testing.assert_array_equal(read_image(data, 8, grey=True, bits=bits), np.full((8, 8, 1), 255))
