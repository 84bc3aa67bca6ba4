"""Crops of the colour photographs that scikit-image and scikit-learn carry: small, but real colours and textures.

The label is the photograph. Crops overlap their neighbours, so the splits are regions of the photograph: the left 70 %
train, the right test, with a gap between.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from kzoo.data import Source, prepared_source, progress
from kzoo.options import TFDSOptions
from kzoo_samples.options import PhotosOptions
from kzoo_samples.prepared import package_file, prepared, raw_image

PHOTOGRAPHS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "tissue": ("skimage", "data/ihc.png"),
    "retina": ("skimage", "data/retina.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}
_SHORTER_SIDE = 512  # larger photographs are scaled down to it: else the retina alone gives half of the crops
_TRAIN_SHARE = 0.7


@dataclass(frozen=True)
class Crop:
    """A square of a scaled photograph, in its pixels."""

    left: int
    top: int
    size: int


def crops(width: int, height: int, split: str, size: int, stride: int) -> Iterator[Crop]:
    """The crops of a split, row by row. The gap between the regions is a quarter of the size."""
    border = int(_TRAIN_SHARE * width)
    start, stop = (0, border) if split == "train" else (border + size // 4, width)
    for top in range(0, height - size + 1, stride):
        for left in range(start, stop - size + 1, stride):
            yield Crop(left, top, size)


def photograph(name: str) -> np.ndarray:
    """A photograph as uint8 `[H, W, 3]`, the shorter side at most 512 pixels."""
    with Image.open(package_file(*PHOTOGRAPHS[name])) as image:
        image = image.convert("RGB")
        scale = min(1.0, _SHORTER_SIDE / min(image.size))
        if scale < 1.0:
            image = image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS)
        return np.asarray(image)


class Photos(tfds.core.GeneratorBasedBuilder):
    """One configuration for each size and stride; every example says where its crop lies."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, options: PhotosOptions, **arguments):
        self.options = options
        super().__init__(config=tfds.core.BuilderConfig(name=_config(options)), **arguments)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": raw_image(self.options.size, self.options.size, 3),
            "label": tfds.features.ClassLabel(names=list(PHOTOGRAPHS)),
            "left": np.int64,
            "top": np.int64,
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in ("train", "test")}

    def _generate_examples(self, split):
        places = []
        for name in PHOTOGRAPHS:
            pixels = photograph(name)
            places += [(name, pixels, crop) for crop in crops(*pixels.shape[1::-1], split, **self.options.model_dump())]
        for number, (name, pixels, crop) in enumerate(progress(places, f"Cutting photographs ({split})", len(places))):
            image = pixels[crop.top : crop.top + crop.size, crop.left : crop.left + crop.size]
            yield number, {"image": image, "label": name, "left": crop.left, "top": crop.top}


def photos(split: str, options: PhotosOptions) -> Source:
    """Crops of `options.size`, uint8 RGB, nine classes; 4,936 to train and 1,453 to test by default."""
    folder = prepared(partial(Photos, options=options), f"photos/{_config(options)}/{Photos.VERSION}")
    return prepared_source("photos", folder, split, TFDSOptions())


def _config(options: PhotosOptions) -> str:
    return f"size{options.size}_stride{options.stride}"
