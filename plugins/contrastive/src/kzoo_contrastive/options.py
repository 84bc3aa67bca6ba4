"""Options of the contrastive methods. Light: pydantic only."""

from typing import Literal

from pydantic import Field

from kzoo.options import ImageOptions, ViewOptions


class SimCLRView(ViewOptions):
    """SimCLR's view at strength s = 1: jitter of 0.8 s, 0.8 s, 0.8 s, 0.2 s."""

    jitter: tuple[float, float, float, float] = Field(
        (0.8, 0.8, 0.8, 0.2), description="strengths of brightness, contrast, saturation and hue jitter"
    )


class SimCLROptions(ImageOptions):
    temperature: float = Field(0.1, gt=0, description="softmax temperature of NT-Xent")
    projector: tuple[int, ...] = Field(
        (2048, 128), min_length=1, description="widths of the projector's Dense layers; SimCLR v2 has three"
    )
    view: SimCLRView = Field(default_factory=SimCLRView, description="how each of the two views is made")


class MoCoV1View(ViewOptions):
    """MoCo v1's view, that of instance discrimination: jitter always, no blur."""

    scale: tuple[float, float] = Field((0.2, 1.0), description="area of the random crop, as a share of the image")
    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.4, 0.4), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    jitter_p: float = Field(1.0, ge=0, le=1, description="probability of colour jitter")
    blur_p: float = Field(0.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class MoCoV2View(ViewOptions):
    """MoCo v2's view: weaker hue jitter, not always, and blur."""

    scale: tuple[float, float] = Field((0.2, 1.0), description="area of the random crop, as a share of the image")


class MoCoV1Options(ImageOptions):
    temperature: float = Field(0.07, gt=0, description="softmax temperature of InfoNCE")
    momentum: float = Field(0.999, ge=0, le=1, description="momentum of the key encoder's moving average")
    queue: int = Field(65536, ge=1, description="number of negatives; a multiple of the global batch")
    projector: tuple[int, ...] = Field((128,), min_length=1, description="widths of the projector's Dense layers")
    batch_norm: Literal["groups", "shared"] = Field(
        "groups",
        description="groups: statistics of `groups` equal parts of the batch, the keys shuffled over them (shuffle BN "
        "on several devices, split BN on one); shared: statistics of the whole batch, which leak the answer",
    )
    groups: int = Field(8, ge=1, description="parts of the global batch with batch statistics of their own")
    view: MoCoV1View = Field(default_factory=MoCoV1View, description="how the query and the key view are made")


class MoCoV2Options(MoCoV1Options):
    temperature: float = Field(0.2, gt=0, description="softmax temperature of InfoNCE")
    projector: tuple[int, ...] = Field((2048, 128), min_length=1, description="widths of the projector's Dense layers")
    view: MoCoV2View = Field(default_factory=MoCoV2View, description="how the query and the key view are made")  # type: ignore[assignment]
