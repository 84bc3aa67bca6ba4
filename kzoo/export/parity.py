"""Whether an export sees in an image file what training saw: real files of each kind, sent down both roads."""

import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from kzoo.errors import ExportError
from kzoo.folder.images import read_image

LIMIT = 0.01  # of the embedding's largest value: what two readers of one file may differ by
REFUSED = ("cmyk", "webp")  # of the kinds: those that an export refuses by name
_ORIENTATION = 274

Serve = Callable[..., dict[str, tf.Tensor]]
Embed = Callable[[np.ndarray], np.ndarray]


def photograph() -> Image.Image:
    """640 x 427 pixels in colour: what scikit-learn brings, or where that is not installed, soft random colours."""
    found = find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        colours = np.random.default_rng(0).integers(0, 256, (14, 20, 3)).astype("uint8")
        return Image.fromarray(colours).resize((640, 427), Image.Resampling.BICUBIC)
    return Image.open(Path(found.submodule_search_locations[0], "datasets", "images", "china.jpg")).convert("RGB")


def files_of_each_kind(photo: Image.Image, size: tuple[int, int]) -> dict[str, bytes]:
    """Files of ten kinds with one picture.

    size: (height, width) of the backbone; where it is not square, the picture has just that size.
    """
    height, width = size
    if height != width:
        photo = photo.resize((width, height))
    turned = photo if height == width else photo.resize((height, width))
    grey = photo.convert("L")
    wide = np.asarray(grey).astype(np.uint16)
    wide = wide * np.uint16(257) - wide % np.uint16(97)  # the lower bytes say something too
    clear = photo.copy()
    clear.putalpha(Image.linear_gradient("L").resize(photo.size))
    return {
        "plain": _file(photo, "JPEG", quality=90),
        "grey": _file(grey, "JPEG"),
        "progressive": _file(photo, "JPEG", progressive=True),
        "cmyk": _file(photo.convert("CMYK"), "JPEG"),
        "palette": _file(photo.quantize(64), "PNG"),
        "16-bit": _file(Image.fromarray(wide), "PNG"),
        "alpha": _file(clear, "PNG"),
        "exif 3": _file(photo, "JPEG", exif=_turned(3)),
        "exif 6": _file(turned, "JPEG", exif=_turned(6)),
        "webp": _file(photo, "WEBP"),
    }


def differences(
    serve: Serve, embed: Embed, shape: tuple[int, int, int], photo: Image.Image, bits: int = 16
) -> dict[str, float | str]:
    """Kind → the largest difference between `serve_bytes` and the embedding of training's pixels, or why it is refused.

    serve: the loaded signature `serve_bytes`. embed: from uint8 pixels `[n,H,W,C]` to embeddings `[n,D]`.
    A difference is a share of the embedding's largest value; NaN where an embedding is not finite, or where a file is
    accepted that must be refused.
    """
    height, width, channels = shape
    files = files_of_each_kind(photo, (height, width))
    side = height if height == width else None
    found: dict[str, float | str] = {}
    served = {kind: file for kind, file in files.items() if kind not in REFUSED}
    received = serve(image_bytes=tf.constant(list(served.values())))["embedding"].numpy()
    expected = embed(np.stack([read_image(file, side, channels == 1, bits) for file in served.values()]))
    for kind, one, right in zip(served, received, expected, strict=True):
        largest, difference = float(np.max(np.abs(right))), float(np.max(np.abs(one - right)))
        found[kind] = difference / largest if difference else difference
    for kind in REFUSED:
        try:
            serve(image_bytes=tf.constant([files[kind]]))
        except tf.errors.InvalidArgumentError as error:
            found[kind] = "refused: " + str(error).partition("image_bytes: ")[2].partition("]")[0]
        else:
            found[kind] = float("nan")
    return {kind: found[kind] for kind in files}


def check_parity(serve: Serve, embed: Embed, shape: tuple[int, int, int], bits: int = 16) -> dict[str, float | str]:
    """The differences of an export; see `differences`.

    Raises ExportError where one is above `LIMIT`, or where a kind is accepted that must be refused.
    """
    found = differences(serve, embed, shape, photograph(), bits)
    for kind, value in found.items():
        if not isinstance(value, str) and not value <= LIMIT:  # also for NaN
            raise ExportError(
                f"the embedding of a file of kind '{kind}' differs from that of training's pixels by {value:.1%} of "
                f"its largest value, more than {LIMIT:.0%}; do not serve it"
            )
    return found


def _file(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif.tobytes()
