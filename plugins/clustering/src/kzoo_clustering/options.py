"""Options of the clustering methods. Light: pydantic only."""

from typing import Self

from pydantic import Field, model_validator

from kzoo import schedules
from kzoo.options import Count, ImageOptions, Side, ViewOptions, Width


class LargeView(ViewOptions):
    """SwAV's large view: colours as SimCLR has them."""

    scale: tuple[float, float] = Field((0.14, 1.0), description="area of the random crop, as a share of the image")
    jitter: tuple[float, float, float, float] = Field(
        (0.8, 0.8, 0.8, 0.2), description="strengths of brightness, contrast, saturation and hue jitter"
    )


class SmallView(LargeView):
    """SwAV's small view: a part of the image that no large view is as small as."""

    scale: tuple[float, float] = Field((0.05, 0.14), description="area of the random crop, as a share of the image")


class SwAVOptions(ImageOptions):
    size: Side | None = Field(
        None, description="side of the large views in pixels; none: the size of the dataset's images"
    )
    local_size: Side | None = Field(
        None,
        description="side of the small views in pixels; none: 3/7 of the large ones' (96 of 224), at least 8",
    )
    local_views: int = Field(6, ge=0, le=64, description="small views of each image, which only predict")
    global_view: LargeView = Field(default_factory=LargeView, description="how each of the two large views is made")
    local_view: SmallView = Field(default_factory=SmallView, description="how each small view is made")
    projector: tuple[Width, ...] = Field(
        (2048, 128), min_length=1, description="widths of the projector's Dense layers"
    )
    prototypes: Count = Field(3000, ge=2, description="prototypes that views are assigned to, K")
    temperature: schedules.Positive = Field(0.1, description="temperature of the predictions' softmax")
    code_temperature: schedules.Positive = Field(0.05, description="temperature of the codes, epsilon")
    iterations: int = Field(3, ge=1, le=1000, description="iterations of Sinkhorn-Knopp")
    freeze_epochs: int = Field(1, ge=0, le=100_000, description="epochs in which the prototypes stay as drawn")
    queue: Count | None = Field(
        None,
        description="earlier embeddings of each large view that share the prototypes with the batch, a multiple of it; "
        "none: the batch is large enough",
    )
    queue_from_epoch: int = Field(15, ge=0, le=100_000, description="epoch from which on the queue is used")

    @model_validator(mode="after")
    def _small_is_small(self) -> Self:
        if self.size is not None and self.local_size is not None and self.local_size > self.size:
            raise ValueError(f"local_size: {self.local_size} is more than size, {self.size}")
        return self
