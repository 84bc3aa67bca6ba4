"""What `cmc` is, and what can be set."""

from typing import Literal

from pydantic import Field, model_validator

from kzoo.options import Count, ViewOptions
from kzoo.specs import MethodSpec
from kzoo_contrastive.specs.bank import BankOptions


class CMCView(ViewOptions):
    """CMC's view: crop and flip; jitter would change one of lightness and colour more than the other."""

    scale: tuple[float, float] = Field((0.2, 1.0), description="area of the random crop, as a share of the image")
    jitter_p: float = Field(0.0, ge=0, le=1, description="probability of colour jitter")
    greyscale_p: float = Field(0.0, ge=0, le=1, description="probability of greyscale")
    blur_p: float = Field(0.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class CMCOptions(BankOptions):
    views: tuple[Literal["l", "ab", "a", "b", "low", "high"], ...] = Field(
        ("l", "ab"),
        min_length=2,
        description="what each view sees: channels of Lab, or the low or high frequencies of L, which grey images have "
        "too; the first view's encoder is the backbone",
    )
    sigma: float = Field(1.0, gt=0, description="blur in pixels that parts the low from the high frequencies")
    graph: Literal["full", "core"] = Field(
        "full", description="full: contrast all pairs of views; core: those with the first view"
    )
    noise: Count | None = Field(
        4096, description="entries of a bank that each example is told from; none: the softmax over all examples"
    )
    view: CMCView = Field(default_factory=CMCView, description="how the image is cropped before it is split in views")

    @model_validator(mode="after")
    def _different_views(self) -> "CMCOptions":
        if len(set(self.views)) < len(self.views):
            raise ValueError(f"views: expected different views. Received: {', '.join(self.views)}")
        return self

    def image_channels(self) -> tuple[int, ...]:
        """Colours are asked for where a view shows them."""
        return (3,) if {"a", "b", "ab"} & set(self.views) else (1, 3)


SPEC = MethodSpec(
    name="cmc",
    target="kzoo_contrastive.cmc:CMC",
    options=CMCOptions,
    family="contrastive",
    channels=(3,),
    summary="Contrast views of an image, as its lightness and its colours, each with an encoder and a memory bank",
    paper="Tian, Krishnan, Isola, ECCV 2020, arXiv:1906.05849",
    check_options={"projector": (16,), "noise": 32},
)
