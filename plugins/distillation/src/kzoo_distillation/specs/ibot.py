"""What `ibot` is, and what can be set."""

from pydantic import Field

from kzoo.options import Count
from kzoo.specs import MethodSpec
from kzoo_distillation.specs.masked import MaskedOptions
from kzoo_distillation.specs.multicrop import AREA, LargeView, SecondLargeView, SmallView


class IBOTLargeView(LargeView):
    """The first large view of iBOT."""

    scale: tuple[float, float] = Field((0.25, 1.0), description=AREA)


class IBOTSecondLargeView(SecondLargeView):
    """The second large view of iBOT."""

    scale: tuple[float, float] = Field((0.25, 1.0), description=AREA)


class IBOTSmallView(SmallView):
    """Each small view of iBOT."""

    scale: tuple[float, float] = Field((0.05, 0.25), description=AREA)


class IBOTOptions(MaskedOptions):
    local_views: int = Field(10, ge=0, le=64, description="small views of each image, which only the student sees")
    view_0: IBOTLargeView = Field(default_factory=IBOTLargeView, description="how the first large view is made")
    view_1: IBOTSecondLargeView = Field(
        default_factory=IBOTSecondLargeView, description="how the second large view is made"
    )
    local_view: IBOTSmallView = Field(default_factory=IBOTSmallView, description="how each small view is made")
    prototypes: Count = Field(8192, ge=2, description="outputs of the head, K")
    masked: float = Field(0.5, ge=0, le=1, description="probability that a large view is masked")
    centre_momentum: float = Field(0.9, ge=0, le=1, description="of the moving average of both centres")


SPEC = MethodSpec(
    name="ibot",
    target="kzoo_distillation.ibot:IBOT",
    options=IBOTOptions,
    family="distillation",
    summary="DINO, and what the teacher says of the patches that are hidden from the student",
    paper="Zhou, Wei, Wang, Shen, Xie, Yuille, Kong, ICLR 2022, arXiv:2111.07832",
    requires=("embedding", "tokens", "masked_tokens"),
    any_size=True,
    check_options={"head": (32, 16), "prototypes": 24, "local_views": 2, "local_size": 16, "freeze_epochs": 0},
)
