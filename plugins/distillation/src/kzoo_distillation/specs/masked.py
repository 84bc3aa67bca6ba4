"""What can be set of iBOT, DINOv2 and SERE alike: the hidden patches."""

from typing import Self

from pydantic import Field, model_validator

from kzoo_distillation.specs.multicrop import MultiCropOptions


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
