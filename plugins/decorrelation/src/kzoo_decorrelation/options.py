"""Options of the decorrelation methods. Light: pydantic only."""

from typing import Self

from pydantic import Field, model_validator

from kzoo.options import Count, ImageOptions, Side, ViewOptions, Width


class FirstView(ViewOptions):
    """BYOL's first view: always blurred."""

    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.2, 0.1), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    blur_p: float = Field(1.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class SecondView(FirstView):
    """BYOL's second view: seldom blurred, at times solarized."""

    blur_p: float = Field(0.1, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")
    solarize_p: float = Field(0.2, ge=0, le=1, description="probability of inverting all values above one half")


class TwinsOptions(ImageOptions):
    """What Barlow Twins and VICReg share."""

    projector: tuple[Width, ...] = Field(
        (8192, 8192, 8192), min_length=1, description="widths of the projector's Dense layers"
    )
    view_0: FirstView = Field(default_factory=FirstView, description="how the first view is made")
    view_1: SecondView = Field(default_factory=SecondView, description="how the second view is made")


class BarlowTwinsOptions(TwinsOptions):
    redundancy: float = Field(0.0051, ge=0, description="weight of the correlations between different units, lambda")
    bias_lr_scale: float = Field(
        0.024,
        gt=0,
        description="factor on the learning rate of biases and normalisation: the paper's 0.0048 for 0.2, with lars",
    )


class VICRegOptions(TwinsOptions):
    invariance: float = Field(25.0, ge=0, description="weight of the distance between the two views' embeddings")
    variance: float = Field(25.0, ge=0, description="weight of what standard deviations lack to 1")
    covariance: float = Field(1.0, ge=0, description="weight of the covariances between different units")


class LargeView(ViewOptions):
    """A view of most of the image, as LeJEPA makes it."""

    scale: tuple[float, float] = Field((0.3, 1.0), description="area of the random crop, as a share of the image")
    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.2, 0.1), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    solarize_p: float = Field(0.2, ge=0, le=1, description="probability of inverting all values above one half")


class SmallView(LargeView):
    """A view of a small part of the image."""

    scale: tuple[float, float] = Field((0.05, 0.3), description="area of the random crop, as a share of the image")


class LeJEPAOptions(ImageOptions):
    size: Side | None = Field(
        None, description="side of the large views in pixels; none: the size of the dataset's images"
    )
    local_size: Side | None = Field(
        None,
        description="side of the small views in pixels; none: 7/16 of the large ones' (98 of 224), at least 8",
    )
    global_views: int = Field(2, ge=1, le=64, description="large views of each image; their mean is what is predicted")
    local_views: int = Field(6, ge=0, le=64, description="small views of each image")
    global_view: LargeView = Field(default_factory=LargeView, description="how each large view is made")
    local_view: SmallView = Field(default_factory=SmallView, description="how each small view is made")
    projector: tuple[Width, ...] = Field(
        (2048, 2048, 128), min_length=1, description="widths of the projector's Dense layers"
    )
    sigreg: float = Field(
        0.05, ge=0, le=1, description="weight of SIGReg, lambda; 1 - lambda is that of the prediction"
    )
    directions: Count = Field(1024, description="random directions of each step that the embeddings are seen along, M")
    points: int = Field(17, ge=3, le=1001, description="points at which characteristic functions are compared, odd")
    bound: float = Field(5.0, gt=0, le=100, description="the points lie evenly between -bound and bound")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.size is not None and self.local_size is not None and self.local_size > self.size:
            raise ValueError(f"local_size: {self.local_size} is more than size, {self.size}")
        if self.global_views + self.local_views < 2:
            raise ValueError("global_views: one view has nothing to be predicted from; ask for two, or for local_views")
        if self.points % 2 == 0:
            raise ValueError(f"points: expected an odd number, of which one is 0. Received: {self.points}")
        return self
