"""What can be set of DINO, iBOT, DINOv2 and SERE alike: large and small views, the head, the teacher."""

from typing import Self

from pydantic import Field, model_validator

from kzoo import schedules
from kzoo.options import Count, ImageOptions, Side, ViewOptions, Width
from kzoo_distillation.specs.byol import JITTER, BYOLSecondView, BYOLView

AREA = "area of the random crop, as a share of the image"


class LargeView(BYOLView):
    """The first large view of DINO."""

    scale: tuple[float, float] = Field((0.4, 1.0), description=AREA)


class SecondLargeView(BYOLSecondView):
    """The second large view of DINO."""

    scale: tuple[float, float] = Field((0.4, 1.0), description=AREA)


class SmallView(ViewOptions):
    """Each small view of DINO."""

    scale: tuple[float, float] = Field((0.05, 0.4), description=AREA)
    jitter: tuple[float, float, float, float] = Field(
        JITTER, description="strengths of brightness, contrast, saturation and hue jitter"
    )


class MultiCropOptions(ImageOptions):
    """What DINO, iBOT and DINOv2 share."""

    size: Side | None = Field(
        None, description="side of the large views in pixels; none: the size of the dataset's images"
    )
    local_size: Side | None = Field(
        None,
        description="side of the small views in pixels; none: 3/7 of the large ones' (96 of 224), at least 8",
    )
    local_views: int = Field(8, ge=0, le=64, description="small views of each image, which only the student sees")
    view_0: LargeView = Field(default_factory=LargeView, description="how the first large view is made")
    view_1: SecondLargeView = Field(default_factory=SecondLargeView, description="how the second large view is made")
    local_view: SmallView = Field(default_factory=SmallView, description="how each small view is made")
    head: tuple[Width, ...] = Field(
        (2048, 2048, 256), min_length=1, description="widths of the head's layers before the prototypes"
    )
    prototypes: Count = Field(65536, ge=2, description="outputs of the head, K")
    student_temperature: schedules.Positive = Field(0.1, description="temperature of the student's softmax")
    teacher_temperature: schedules.Positive = Field(
        0.04, description="temperature of the teacher's softmax; the best runs warm it up to 0.07 in 30 epochs"
    )
    momentum: schedules.Share = Field(
        default_factory=lambda: schedules.Cosine(start=0.996, end=1.0),
        description="of the teacher's moving average, after each step",
    )
    freeze_epochs: int = Field(1, ge=0, le=100_000, description="epochs in which the prototypes stay as drawn")

    @model_validator(mode="after")
    def _two_views(self) -> Self:
        if self.size is not None and self.local_size is not None and self.local_size > self.size:
            raise ValueError(f"local_size: {self.local_size} is more than size, {self.size}")
        return self
