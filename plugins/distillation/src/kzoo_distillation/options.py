"""Options of the distillation methods. Light: pydantic only."""

from typing import Self

from pydantic import Field, model_validator

from kzoo import schedules
from kzoo.options import Count, Depth, ImageOptions, Side, ViewOptions, Width

_JITTER = (0.4, 0.4, 0.2, 0.1)


class BYOLView(ViewOptions):
    """The first view of BYOL: weak saturation jitter, always blurred."""

    jitter: tuple[float, float, float, float] = Field(
        _JITTER, description="strengths of brightness, contrast, saturation and hue jitter"
    )
    blur_p: float = Field(1.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class BYOLSecondView(BYOLView):
    """The second view of BYOL: seldom blurred, sometimes solarised."""

    blur_p: float = Field(0.1, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")
    solarize_p: float = Field(0.2, ge=0, le=1, description="probability of inverting all values above one half")


class SimSiamView(ViewOptions):
    """Each view of SimSiam, MoCo v2's."""

    scale: tuple[float, float] = Field((0.2, 1.0), description="area of the random crop, as a share of the image")


class TwinsOptions(ImageOptions):
    """What BYOL and SimSiam share."""

    view_0: ViewOptions
    view_1: ViewOptions


class BYOLOptions(TwinsOptions):
    projector: tuple[Width, ...] = Field(
        (4096, 256), min_length=1, description="widths of the projector's Dense layers"
    )
    predictor: tuple[Width, ...] = Field(
        (4096, 256), min_length=1, description="widths of the predictor's Dense layers"
    )
    momentum: schedules.Share = Field(
        default_factory=lambda: schedules.Cosine(start=0.99, end=1.0),
        description="of the target's moving average, after each step; from 0.996 in 1000 epochs",
    )
    view_0: BYOLView = Field(default_factory=BYOLView, description="how the first view is made")
    view_1: BYOLSecondView = Field(default_factory=BYOLSecondView, description="how the second view is made")

    @model_validator(mode="after")
    def _same_width(self) -> Self:
        if self.projector[-1] != self.predictor[-1]:
            raise ValueError(
                f"predictor: must end as wide as the projector, {self.projector[-1]}. Received: {self.predictor[-1]}"
            )
        return self


class SimSiamOptions(TwinsOptions):
    projector: tuple[Width, ...] = Field(
        (2048, 2048, 2048), min_length=1, description="widths of the projector's Dense layers; two of them for CIFAR"
    )
    bottleneck: Width = Field(512, description="width of the predictor's hidden layer")
    view_0: SimSiamView = Field(default_factory=SimSiamView, description="how the first view is made")
    view_1: SimSiamView = Field(default_factory=SimSiamView, description="how the second view is made")


_AREA = "area of the random crop, as a share of the image"


class LargeView(BYOLView):
    """The first large view of DINO."""

    scale: tuple[float, float] = Field((0.4, 1.0), description=_AREA)


class SecondLargeView(BYOLSecondView):
    """The second large view of DINO."""

    scale: tuple[float, float] = Field((0.4, 1.0), description=_AREA)


class SmallView(ViewOptions):
    """Each small view of DINO."""

    scale: tuple[float, float] = Field((0.05, 0.4), description=_AREA)
    jitter: tuple[float, float, float, float] = Field(
        _JITTER, description="strengths of brightness, contrast, saturation and hue jitter"
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


class IBOTLargeView(LargeView):
    """The first large view of iBOT."""

    scale: tuple[float, float] = Field((0.25, 1.0), description=_AREA)


class IBOTSecondLargeView(SecondLargeView):
    """The second large view of iBOT."""

    scale: tuple[float, float] = Field((0.25, 1.0), description=_AREA)


class IBOTSmallView(SmallView):
    """Each small view of iBOT."""

    scale: tuple[float, float] = Field((0.05, 0.25), description=_AREA)


class MaskedOptions(MultiCropOptions):
    """What iBOT and DINOv2 share."""

    hidden: tuple[float, float] = Field(
        (0.1, 0.5), description="share of the patches that are hidden in a masked view, uniform between these"
    )
    patch_weight: float = Field(1.0, ge=0, description="weight of the loss of the hidden patches")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        low, high = self.hidden
        if not 0 < low <= high <= 1:
            raise ValueError(f"hidden: expected 0 < low <= high <= 1. Received: {low}, {high}")
        return self


class IBOTOptions(MaskedOptions):
    local_views: int = Field(10, ge=0, le=64, description="small views of each image, which only the student sees")
    view_0: IBOTLargeView = Field(default_factory=IBOTLargeView, description="how the first large view is made")
    view_1: IBOTSecondLargeView = Field(
        default_factory=IBOTSecondLargeView, description="how the second large view is made"
    )
    local_view: IBOTSmallView = Field(default_factory=IBOTSmallView, description="how each small view is made")
    prototypes: Count = Field(8192, ge=2, description="outputs of the head, K")
    masked: float = Field(0.5, ge=0, le=1, description="probability that a large view is masked")
    centre_momentum: float = Field(0.9, ge=0, le=1, description="of the moving average of both centres")


class SEREOptions(IBOTOptions):
    points: int = Field(13, ge=2, le=64, description="points of a side of the grid in what two large views share")
    relation_heads: Count = Field(6, description="groups of features, in each of which points are related")
    spatial_weight: float = Field(0.2, ge=0, le=2, description="weight of the relations of points")
    channel_weight: float = Field(0.5, ge=0, le=2, description="weight of the relations of features")
    spatial_temperature: float = Field(0.5, gt=0, description="of the teacher's relations of points")
    channel_temperature: float = Field(0.1, gt=0, description="of the teacher's relations of features")


class DINOOptions(MultiCropOptions):
    centre_momentum: float = Field(0.9, ge=0, le=1, description="of the centre's moving average")


class DINOv2LargeView(LargeView):
    """The first large view of DINOv2."""

    scale: tuple[float, float] = Field((0.32, 1.0), description=_AREA)


class DINOv2SecondLargeView(SecondLargeView):
    """The second large view of DINOv2."""

    scale: tuple[float, float] = Field((0.32, 1.0), description=_AREA)


class DINOv2SmallView(SmallView):
    """Each small view of DINOv2."""

    scale: tuple[float, float] = Field((0.05, 0.32), description=_AREA)


class DINOv2Options(MaskedOptions):
    view_0: DINOv2LargeView = Field(default_factory=DINOv2LargeView, description="how the first large view is made")
    view_1: DINOv2SecondLargeView = Field(
        default_factory=DINOv2SecondLargeView, description="how the second large view is made"
    )
    local_view: DINOv2SmallView = Field(default_factory=DINOv2SmallView, description="how each small view is made")
    head: tuple[Width, ...] = Field(
        (2048, 2048, 384), min_length=1, description="widths of the class token's head before the prototypes"
    )
    patch_head: tuple[Width, ...] = Field(
        (2048, 2048, 256), min_length=1, description="widths of the patches' head before the prototypes"
    )
    prototypes: Count = Field(131072, ge=2, description="outputs of each head, K")
    teacher_temperature: schedules.Positive = Field(
        default_factory=lambda: schedules.Linear(start=0.04, end=0.07, epochs=30),
        description="temperature of the teacher's targets",
    )
    momentum: schedules.Share = Field(
        default_factory=lambda: schedules.Cosine(start=0.994, end=1.0),
        description="of the teacher's moving average, after each step",
    )
    koleo: float = Field(0.1, ge=0, description="weight of what keeps class tokens apart")
    patch_lr_scale: float = Field(0.2, gt=0, description="factor on the learning rate of the patch projection")


class Data2VecView(ViewOptions):
    """The view of data2vec, BEiT's: brightness, contrast and saturation always change, and nothing else."""

    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.4, 0.0), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    jitter_p: float = Field(1.0, ge=0, le=1, description="probability of colour jitter")
    greyscale_p: float = Field(0.0, ge=0, le=1, description="probability of greyscale")
    blur_p: float = Field(0.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class Data2VecOptions(ImageOptions):
    view: Data2VecView = Field(default_factory=Data2VecView, description="how the view is made")
    hidden: float = Field(
        0.6125, gt=0, lt=1, description="share of the patches that are hidden, at most: 120 of 196 patches"
    )
    blocks: Depth = Field(6, ge=1, description="upper blocks of the teacher that the target is the mean of")
    beta: float = Field(2.0, gt=0, description="distance from which on the smooth L1 loss is linear")
    momentum: schedules.Share = Field(0.9998, description="of the teacher's moving average, after each step")
