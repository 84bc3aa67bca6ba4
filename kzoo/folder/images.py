"""Reading one image file into pixels: the one place where Pillow decodes, for training, evaluation and embedding.

A file becomes uint8 pixels, upright, with one or three channels. Only resizing imports TensorFlow.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

# What Pillow has a name for and cannot turn into pixels alone, or is no still image: documents that other programs
# draw, weather and film files. Kodak's PCD is left to the point clouds that use its suffix today.
_NO_STILL_IMAGE = frozenset({"BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "PALM", "PCD", "PDF", "WMF"})
_HEADER_TELLS = frozenset({"AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "WEBP"})  # size and mode of the pixels
_GREY_MODES = frozenset({"1", "L", "LA", "La"})
MID_GREY = 128
_ORIENTATION = 274  # the EXIF tag; values from 5 on swap width and height


@dataclass(frozen=True)
class Looks:
    """What an image file holds. size: (width, height) when upright. mode: Pillow's. grey: whether it has no colour.

    largest: the largest value of grey pixels that are wider than 8 bits; None for all others.
    wide_colour: the brightest of the upper 8 bits, where colours are wider than that; None for all others.
    several: whether it holds more images than the first, which is used.
    """

    size: tuple[int, int]
    mode: str
    grey: bool
    largest: int | None = None
    wide_colour: int | None = None
    several: bool = False


def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that it can decode here, those of its plugins among them."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - _NO_STILL_IMAGE))


def suffixes() -> frozenset[str]:
    """The suffixes of those formats, in lower case: {".jpg", ...}."""
    readable = {*formats(), "MPO"}  # which Pillow opens as JPEG
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable)


def read_image(file: Path | bytes, size: int | None = None, grey: bool = False, bits: int = 16) -> np.ndarray:
    """The first image of a file, upright, as uint8 `[H, W, 3]`, or `[H, W, 1]` if `grey`.

    Transparency is laid on mid-grey; palettes and CMYK become RGB. Grey values wider than 8 bits are brought to 8.
    file: its path, or what it holds. size: if given, the shorter side is resized to it and the centre is cropped to a
    square. bits: that wide grey values use: 2 ** bits - 1 becomes 255 (a camera's 12 bits are stored in 16).
    Raises whatever Pillow raises for a file it cannot read, and ValueError for pixels that say no brightness.
    """
    with _opened(file) as opened:
        opened.load()
        image = ImageOps.exif_transpose(opened)
        if _is_wide(image):
            values = _wide_values(image)
            top = 2**bits - 1
            image = Image.fromarray(((values.clip(0, top) * 255 + top // 2) // top).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (MID_GREY, MID_GREY, MID_GREY, 255)), image)
        image = image.convert("L" if grey else "RGB")
        pixels = np.atleast_3d(np.asarray(image))
    return pixels if size is None else _resized(pixels, size)


def header_size(file: Path) -> tuple[int, int] | None:
    """(width, height) of an image file when upright, without decoding; None where its header does not tell.

    Raises as `read_image`.
    """
    with _opened(file) as opened:
        return _upright(opened) if opened.format in _HEADER_TELLS else None


def look(file: Path | bytes) -> Looks:
    """What an image file holds: from its header where that tells, else from its pixels. Raises as `read_image`."""
    with _opened(file) as opened:
        mode, several = opened.mode, bool(getattr(opened, "is_animated", False))
        wide_colour = not _is_wide(opened) and ";16" in _raw_mode(opened)
        if opened.format in _HEADER_TELLS and not _is_wide(opened) and not wide_colour:
            return Looks(_upright(opened), mode, _is_grey(opened), several=several)
        opened.load()
        image = ImageOps.exif_transpose(opened)
        if _is_wide(image):
            return Looks(image.size, image.mode, True, largest=int(_wide_values(image).max()), several=several)
        brightest = int(np.asarray(image.convert("RGB")).max()) if wide_colour else None
        return Looks(image.size, image.mode, _is_grey(image), wide_colour=brightest, several=several)


def bits_for(largest: int) -> int:
    """The bits that grey values up to `largest` use, as cameras and scanners count them: 8, 10, 12, 14, 16, ...

    So the brightest pixel of all becomes at least 63 of 255.
    """
    return max(8, largest.bit_length() + largest.bit_length() % 2)


def reason(error: Exception) -> str:
    """Why a file cannot be read, as a few words without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "no image that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = " ".join(str(error).split())
    told = isinstance(error, OSError | ValueError | Image.DecompressionBombError)
    return words if told else f"{type(error).__name__}: {words}"


@contextmanager
def _opened(file: Path | bytes) -> Iterator[ImageFile.ImageFile]:
    """The image, not decoded. From Pillow's limit on, where Pillow itself only warns, it is a decompression bomb."""
    if (isinstance(file, bytes) and not file) or (isinstance(file, Path) and not file.stat().st_size):
        raise ValueError("an empty file")
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=formats()) as image:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels; the limit is {limit} in all")
        yield image


def _upright(opened: ImageFile.ImageFile) -> tuple[int, int]:
    """Its (width, height) when upright; nothing is decoded."""
    width, height = opened.size
    # of PNG, Pillow's own `getexif` decodes the pixels to come to what may follow them
    early = opened.format == "PNG" and opened.fp is not None and not _tells_late(opened.fp)
    exif = Image.Image.getexif(opened) if early else opened.getexif()
    return (height, width) if exif.get(_ORIENTATION, 1) >= 5 else (width, height)


def _tells_late(file: IO[bytes]) -> bool:
    """Whether a PNG file has EXIF or text behind its pixels, which is rare."""
    place, pixels, late = file.tell(), False, False
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND" and not late:
        pixels |= head[4:] == b"IDAT"
        late = pixels and head[4:] in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    file.seek(place)
    return late


def _is_grey(image: Image.Image) -> bool:
    """Whether its pixels have no colour, by its mode; of a palette, by all its colours."""
    if image.mode != "P":
        return image.mode in _GREY_MODES
    palette = image.getpalette() or []
    return palette[0::3] == palette[1::3] == palette[2::3]


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """By TensorFlow, as everywhere: Pillow rounds between the axes, in an order that its versions choose."""
    import tensorflow as tf  # only where it is needed: seconds

    from kzoo.data.resize import resize_bytes

    with tf.device("CPU:0"):
        return resize_bytes(tf.constant(pixels), size).numpy()


def _is_wide(image: Image.Image) -> bool:
    """Whether its pixels are single numbers of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def _wide_values(image: Image.Image) -> np.ndarray:
    """The grey values of a wide image, int64 `[H, W]`."""
    if image.mode == "F":
        raise ValueError("floating-point pixels: no file says which value is white; convert it to 8 or 16 bits")
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0:
        raise ValueError(f"negative pixels, down to {values.min()}; convert it to 8 or 16 bits")
    return values


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How the file stores a pixel, as Pillow's decoder is told."""
    for tile in image.tile:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        return str(arguments[0]) if arguments else ""
    return ""
