"""Options of the decorrelation methods. Light: pydantic only."""

from pydantic import Field

from kzoo.options import ImageOptions, ViewOptions, Width

_JITTER = (0.4, 0.4, 0.2, 0.1)


class TwinsOptions(ImageOptions):
    """What methods on two views share; the views are those of BYOL."""

    projector: tuple[Width, ...] = Field(
        (8192, 8192, 8192), min_length=1, description="widths of the projector's Dense layers"
    )
    view_0: ViewOptions = Field(
        default_factory=lambda: ViewOptions(jitter=_JITTER, blur_p=1.0), description="how the first view is made"
    )
    view_1: ViewOptions = Field(
        default_factory=lambda: ViewOptions(jitter=_JITTER, blur_p=0.1, solarize_p=0.2),
        description="how the second view is made",
    )


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
