"""One image file as pixels: depth, orientation, what is refused and why."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kzoo.folder.images import bits_for, formats, look, read_image, reason, suffixes


def file(image: Image.Image, form: str, **how) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **how)
    return buffer.getvalue()


def grey(values, dtype) -> Image.Image:
    return Image.fromarray(np.array([values], dtype))


def test_a_path_and_what_it_holds_are_the_same_image(tmp_path):
    data = file(Image.new("RGB", (4, 2), (1, 2, 3)), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    np.testing.assert_array_equal(read_image(data), np.full((2, 4, 3), (1, 2, 3)))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), read_image(data))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "JPEG2000"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_the_brightest_of_the_bits_that_are_used_is_white(form, bits):
    top = 2**bits - 1
    data = file(grey([0, top // 2, top], np.uint16), form, **({"irreversible": False} if form == "JPEG2000" else {}))
    assert look(data).largest == top
    assert bits_for(top) == bits
    assert read_image(data, grey=True, bits=bits).ravel().tolist() == [0, 127, 255]
    assert read_image(data, bits=bits).shape == (1, 3, 3)


@pytest.mark.parametrize(("largest", "bits"), [(0, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (65536, 18)])
def test_bits_are_those_of_cameras(largest, bits):
    assert bits_for(largest) == bits


@pytest.mark.parametrize("largest", [256, 1024, 4096, 16384, 65536, 253_000, 2**20, 2**31 - 1])
def test_no_depth_makes_images_black(largest):
    data = file(grey([0, largest], np.int32), "TIFF")
    assert read_image(data, grey=True, bits=bits_for(largest)).max() >= 63


def test_signed_pixels_of_32_bits_are_scaled_and_negative_ones_refused():
    data = file(grey([0, 2047, 4095], np.int32), "TIFF")
    assert look(data).mode == "I"
    assert look(data).largest == 4095
    assert read_image(data, grey=True, bits=12).ravel().tolist() == [0, 127, 255]
    for function in (look, read_image):
        with pytest.raises(ValueError, match="negative pixels, down to -7"):
            function(file(grey([0, -7], np.int32), "TIFF"))
        with pytest.raises(ValueError, match="floating-point pixels"):
            function(file(grey([0, 0.5], np.float32), "TIFF"))


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_of_16_bits_tells_how_bright_its_upper_8_are(channels):
    dark = tf.io.encode_png(np.full((2, 3, channels), 4095, np.uint16)).numpy()  # 15 of 255 in the upper 8
    assert look(dark).wide_colour == 15
    assert look(file(Image.new("RGB", (2, 2), (9, 9, 9)), "PNG")).wide_colour is None


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_a_look_says_is_what_is_read(form, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.new("RGB", (6, 4), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 3, 2))  # the upper left quarter
    data = file(image, form, exif=exif)
    pixels = read_image(data)
    assert look(data).size == ((6, 4) if orientation < 5 else (4, 6)) == pixels.shape[1::-1]
    corners = pixels[[0, 0, -1, -1], [0, -1, -1, 0], 0] > 128  # clockwise from the upper left
    white = [0, 1, 2, 3, 0, 1, 2, 3][orientation - 1]
    assert corners.tolist() == [corner == white for corner in range(4)]


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_palette_is_grey_where_all_its_colours_are(form):
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 77, 77, 77, 9, 9, 9])
    assert look(file(image, form)).grey
    assert (read_image(file(image, form), grey=True) == 77).all()
    image.putpalette([0, 0, 0, 77, 77, 78, 9, 9, 9])
    assert not look(file(image, form)).grey


def test_no_file_reaches_a_decoder_that_runs_other_programs(tmp_path):
    script = file(Image.new("RGB", (4, 4)), "EPS")
    (tmp_path / "a.png").write_bytes(script)
    assert Image.open(tmp_path / "a.png").format == "EPS"  # which Pillow would hand to Ghostscript
    with pytest.raises(Exception) as caught:
        read_image(tmp_path / "a.png")
    assert reason(caught.value) == "no image that Pillow knows"
    assert {".jpg", ".jfif", ".ppm", ".avif", ".jp2", ".tga", ".webp", ".mpo", ".qoi"} <= suffixes()
    assert suffixes().isdisjoint({".eps", ".ps", ".pdf", ".mpg", ".h5", ".wmf", ".txt"})
    assert "EPS" not in formats()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "an empty file"),
        (b"no image", "no image that Pillow knows"),
        (file(Image.effect_noise((64, 64), 90), "PNG")[:900], "truncated"),
        (file(Image.effect_noise((64, 64), 90), "JPEG")[:-99], "truncated"),
    ],
)
def test_a_file_that_cannot_be_read_says_why_without_a_path(data, why, tmp_path):
    (tmp_path / "secret.png").write_bytes(data)
    with pytest.raises(Exception) as caught:
        read_image(tmp_path / "secret.png")
    assert why in reason(caught.value)
    assert "secret" not in reason(caught.value)
