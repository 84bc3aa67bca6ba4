"""Options of the context-prediction methods. Light: pydantic only."""

from typing import Literal

from pydantic import Field

from kzoo.options import ImageOptions


class RotationOptions(ImageOptions):
    crop: Literal["pad", "resized"] = Field(
        "pad", description="pad: pad by `padding` and crop back (CIFAR); resized: random resized crop (ImageNet)"
    )
    padding: int = Field(4, ge=0, description="pixels of padding before the crop")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip before rotating")
