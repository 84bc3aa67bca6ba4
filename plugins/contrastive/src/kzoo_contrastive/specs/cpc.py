"""What `cpc` is, and what can be set."""

from typing import Literal, Self

from pydantic import Field, model_validator

from kzoo.options import Depth, ImageOptions, Width
from kzoo.specs import MethodSpec


class CPCOptions(ImageOptions):
    grid: Depth = Field(7, ge=3, description="patches in a row, and rows of patches; they overlap")
    patch: float = Field(0.25, gt=0, lt=1, description="side of a patch as a share of the image's; 8 pixels at least")
    steps: Depth = Field(5, ge=1, description="largest distance in rows at which patches are predicted")
    skip: Depth = Field(0, description="nearest distances that are left out; patches there overlap the context's")
    context_layers: Depth = Field(5, ge=1, description="residual layers of the context network; each sees a row more")
    context_width: Width = Field(256, description="channels inside the context network's layers")
    crop: float = Field(
        260 / 300, gt=0, le=1, description="side of the random square crop of the image, as a share of the image's"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip of the image")
    greyscale_p: float = Field(0.5, ge=0, le=1, description="probability of greyscale, the same for all patches")
    downstream: Literal["patches", "image"] = Field(
        "patches",
        description="what an image's embedding is: patches, the mean over those of the grid, as in the paper; "
        "image, that of the image as a whole",
    )
    batch_norm: bool = Field(
        False, description="accept a backbone with batch normalisation, through which patches see each other"
    )

    @model_validator(mode="after")
    def _reaches_a_row(self) -> Self:
        if not self.skip < self.steps < self.grid:
            raise ValueError(
                f"expected skip < steps < grid, or there is nothing to predict. Received: {self.skip}, {self.steps}, "
                f"{self.grid}"
            )
        return self


SPEC = MethodSpec(
    name="cpc",
    target="kzoo_contrastive.cpc:CPC",
    options=CPCOptions,
    family="contrastive",
    any_size=True,
    summary="Predict the patches further down from the rows of patches above",
    paper="van den Oord, Li, Vinyals 2018, arXiv:1807.03748",
    check_options={"grid": 4, "steps": 2, "context_layers": 1, "context_width": 16, "batch_norm": True},
)
