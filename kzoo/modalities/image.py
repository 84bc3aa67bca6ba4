"""Images: uint8 `[H, W, C]`, C 1 or 3; a backbone takes float `[B, H, W, C]` in [0, 1]."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from kzoo.data.resize import resize_and_crop, to_float
from kzoo.data.source import Batch, Source
from kzoo.evaluate import figures
from kzoo.export.pixels import serve_images
from kzoo.modality import CheckExamples, Modality, Served, Shown, Signature
from kzoo.specs import DataFacts


class Image(Modality):
    key = "image"

    def element(self, source: Source) -> dict[str, tuple[tuple[int, ...], str]]:
        return {"image": (tuple(source.image_shape), "uint8")}

    def describe(self, source: Source) -> str:
        return f"images of {' x '.join(map(str, source.image_shape))}"

    def input_shape(self, source: Source, sides: tuple[int, int] | None) -> tuple[int, ...]:
        return (*(sides or source.image_shape[:2]), source.image_shape[2])

    def ready(self, batch: Batch, size: int | None, key: str) -> Batch:
        image = to_float(batch["image"])
        return {**batch, "image": image if size is None else resize_and_crop(image, size)}

    def blank(self, facts: DataFacts, input_shape: tuple[int | None, ...], size: int) -> dict[str, np.ndarray]:
        return {"image": np.zeros((2, size, size, input_shape[-1] or 3), "uint8")}

    def show(self, path: Path, shown: Shown) -> None:
        figures.views(path, shown.raw["image"], figures.pictures_of(shown.ready, shown.count))

    def thumbnails(self, batch: Batch) -> np.ndarray:
        return np.asarray(batch["image"])

    def serve(
        self,
        backbone: keras.Model,
        *,
        size: tuple[int, ...] | None,
        vocabulary: Sequence[str],
        bits: int,
        further: Mapping[str, Signature],
    ) -> Served:
        return serve_images(backbone, size, bits, further)

    def examples(self) -> CheckExamples:
        from kzoo.testing.examples import IMAGES  # the suite is not there when a model is served

        return IMAGES


IMAGE = Image()
