"""Options of the decorrelation methods. Light: pydantic only."""

from pydantic import Field

from kzoo.options import ImageOptions, ViewOptions, Width


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
