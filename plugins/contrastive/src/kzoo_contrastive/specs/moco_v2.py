"""What `moco_v2` is, and what can be set."""

from pydantic import Field

from kzoo.options import ViewOptions, Width
from kzoo.specs import MethodSpec
from kzoo_contrastive.specs.moco_v1 import MoCoV1Options


class MoCoV2View(ViewOptions):
    """MoCo v2's view: weaker hue jitter, not always, and blur."""

    scale: tuple[float, float] = Field((0.2, 1.0), description="area of the random crop, as a share of the image")


class MoCoV2Options(MoCoV1Options):
    temperature: float = Field(0.2, gt=0, description="softmax temperature of InfoNCE")
    projector: tuple[Width, ...] = Field(
        (2048, 128), min_length=1, description="widths of the projector's Dense layers"
    )
    view: MoCoV2View = Field(default_factory=MoCoV2View, description="how the query and the key view are made")  # type: ignore[assignment]


SPEC = MethodSpec(
    name="moco_v2",
    target="kzoo_contrastive.moco_v2:MoCoV2",
    options=MoCoV2Options,
    family="contrastive",
    summary="MoCo with SimCLR's head, blur and a higher temperature",
    paper="Chen, Fan, Girshick, He 2020, arXiv:2003.04297",
    check_options={"projector": (32, 16), "queue": 64, "groups": 4},
)
