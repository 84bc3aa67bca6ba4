"""What `amdim` is, and what can be set."""

from typing import Literal

from pydantic import Field

from kzoo.options import Depth, ImageOptions, ViewOptions
from kzoo.specs import MethodSpec


class AMDIMView(ViewOptions):
    """AMDIM's view: no blur, and one flip for both views."""

    scale: tuple[float, float] = Field((0.3, 1.0), description="area of the random crop, as a share of the image")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip of both views")
    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.4, 0.2), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    greyscale_p: float = Field(0.25, ge=0, le=1, description="probability of greyscale")
    blur_p: float = Field(0.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class AMDIMOptions(ImageOptions):
    crop: Literal["shift", "resized"] = Field(
        "resized",
        description="shift: by up to an eighth of the side, mirrored at the edges, as for CIFAR; "
        "resized: a random crop, resized, as for STL-10 and ImageNet",
    )
    local_sides: tuple[Depth, Depth] = Field(
        (5, 7),
        description="sides of the two feature maps: the coarser, whose locations are also sources, and the finer",
    )
    clip: float = Field(20.0, gt=0, description="scores are clipped to clip * tanh(score / clip)")
    regulariser: float = Field(0.04, ge=0, description="weight of the mean squared score")
    batch_norm: bool = Field(False, description="normalise inside the heads too; their output is in any case")
    view: AMDIMView = Field(default_factory=AMDIMView, description="how each of the two views is made")


SPEC = MethodSpec(
    name="amdim",
    least_examples=2,
    target="kzoo_contrastive.amdim:AMDIM",
    options=AMDIMOptions,
    family="contrastive",
    requires=("embedding", "map", "map_1"),
    summary="Find the local features of one view by those of another, at several scales",
    paper="Bachman, Hjelm, Buchwalter, NeurIPS 2019, arXiv:1906.00910",
    check_options={"crop": "shift"},
    check_backbone="amdim_encoder",
    check_learning_rate=0.0001,
)
