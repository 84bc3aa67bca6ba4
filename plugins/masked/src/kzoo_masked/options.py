"""Options of the masked methods. Light: pydantic only."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from kzoo.options import Depth, ImageOptions, Pixels, Width

_SCALE = "area of the random crop, as a share of the image"


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
    scale: tuple[float, float] = Field((0.2, 1.0), description=_SCALE)
    ratio: float = Field(0.75, gt=0, lt=1, description="share of the patches that are hidden")
    normalise_patches: bool = Field(
        True, description="predict each patch with mean 0 and variance 1; false: its pixels, for nicer pictures"
    )
    decoder_width: Width = Field(512, description="width of the decoder")
    decoder_depth: Depth = Field(8, ge=1, description="blocks of the decoder")
    decoder_heads: Depth = Field(16, ge=1, description="attention heads of the decoder; must divide its width")


class SimMIMOptions(PixelOptions):
    scale: tuple[float, float] = Field((0.67, 1.0), description=_SCALE)
    ratio: float = Field(0.6, gt=0, lt=1, description="share of the squares that are hidden")
    square: Pixels | None = Field(
        None,
        ge=1,
        description="side in pixels of the squares that are hidden, a multiple of the backbone's patch size (the "
        "paper's: 32 of 192 or 224); none: the patch size",
    )
