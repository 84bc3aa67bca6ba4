"""What `moco_v1` is, and what can be set."""

from typing import Literal

from pydantic import Field

from kzoo.options import Count, ImageOptions, ViewOptions, Width
from kzoo.specs import MethodSpec


class MoCoV1View(ViewOptions):
    """MoCo v1's view, that of instance discrimination: jitter always, no blur."""

    scale: tuple[float, float] = Field((0.2, 1.0), description="area of the random crop, as a share of the image")
    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.4, 0.4), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    jitter_p: float = Field(1.0, ge=0, le=1, description="probability of colour jitter")
    blur_p: float = Field(0.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class MoCoV1Options(ImageOptions):
    temperature: float = Field(0.07, gt=0, description="softmax temperature of InfoNCE")
    momentum: float = Field(0.999, ge=0, le=1, description="momentum of the key encoder's moving average")
    queue: Count = Field(65536, description="number of negatives; a multiple of the global batch")
    projector: tuple[Width, ...] = Field((128,), min_length=1, description="widths of the projector's Dense layers")
    batch_norm: Literal["groups", "shared"] = Field(
        "groups",
        description="groups: statistics of `groups` equal parts of the batch, the keys shuffled over them (shuffle BN "
        "on several devices, split BN on one); shared: statistics of the whole batch, which leak the answer",
    )
    groups: Count = Field(8, description="parts of the global batch with batch statistics of their own")
    decoupled: bool = Field(False, description="leave the positive out of the denominator (decoupled contrastive loss)")
    view: MoCoV1View = Field(default_factory=MoCoV1View, description="how the query and the key view are made")


SPEC = MethodSpec(
    name="moco_v1",
    target="kzoo_contrastive.moco_v1:MoCoV1",
    options=MoCoV1Options,
    family="contrastive",
    summary="Contrast a query with its key and a queue of keys from a momentum encoder",
    paper="He, Fan, Wu, Xie, Girshick, CVPR 2020, arXiv:1911.05722",
    check_options={"projector": (16,), "queue": 64, "groups": 4},
)
