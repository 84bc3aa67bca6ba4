"""Options of the masked methods. Light: pydantic only."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from kzoo import schedules
from kzoo.options import Count, Depth, ImageOptions, Pixels, Width

_SCALE = "area of the random crop, as a share of the image"


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError(f"expected 0 < low <= high; received {pair[0]:g}, {pair[1]:g}")
    return pair


def _shares(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 1:
        raise ValueError(f"expected shares of at most 1; received {pair[1]:g}")
    return pair


Ratios = Annotated[tuple[float, float], AfterValidator(_rising)]  # the lowest and the highest
Areas = Annotated[Ratios, AfterValidator(_shares)]


class PixelOptions(ImageOptions):
    """Of methods that predict pixels."""

    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    mean: tuple[float, ...] | None = Field(
        None,
        description="mean of each channel, in [0, 1], taken from the pixels to predict; none: they stay in [0, 1]",
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="standard deviation of each channel, in [0, 1], that the pixels to predict are divided by"
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.mean is None) != (self.std is None) or len(self.mean or ()) != len(self.std or ()):
            raise ValueError("mean and std go together, with one value for each channel")
        return self


class MAEOptions(PixelOptions):
    scale: Areas = Field((0.2, 1.0), description=_SCALE)
    ratio: float = Field(0.75, gt=0, lt=1, description="share of the patches that are hidden")
    normalise_patches: bool = Field(
        True, description="predict each patch with mean 0 and variance 1; false: its pixels, for nicer pictures"
    )
    decoder_width: Width = Field(512, description="width of the decoder")
    decoder_depth: Depth = Field(8, ge=1, description="blocks of the decoder")
    decoder_heads: Depth = Field(16, ge=1, description="attention heads of the decoder; must divide its width")


class SimMIMOptions(PixelOptions):
    scale: Areas = Field((0.67, 1.0), description=_SCALE)
    ratio: float = Field(0.6, gt=0, lt=1, description="share of the squares that are hidden")
    square: Pixels | None = Field(
        None,
        ge=1,
        description="side in pixels of the squares that are hidden, a multiple of the backbone's patch size (the "
        "paper's: 32 of 192 or 224); none: the patch size",
    )


class IJEPAOptions(ImageOptions):
    scale: Areas = Field((0.3, 1.0), description=_SCALE)
    targets: Count = Field(4, le=64, description="target blocks of each image")
    target_scale: Areas = Field((0.15, 0.2), description="area of a target block, as a share of the image")
    target_aspect: Ratios = Field((0.75, 1.5), description="height / width of a target block")
    context_scale: Areas = Field((0.85, 1.0), description="area of the context's square, as a share of the image")
    context: float = Field(
        0.25, gt=0, lt=1, description="share of the patches that the encoder gets as context, the same of all images"
    )
    predictor_width: Width = Field(384, description="width of the predictor")
    predictor_depth: Depth = Field(12, ge=1, description="blocks of the predictor (6 for ViT-B)")
    predictor_heads: Depth = Field(12, ge=1, description="attention heads of the predictor; must divide its width")
    momentum: schedules.Share = Field(
        default_factory=lambda: schedules.Linear(start=0.996, end=1.0),
        description="of the target encoder's moving average, after each step",
    )
