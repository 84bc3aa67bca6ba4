"""What `dinov2` is, and what can be set."""

from pydantic import Field

from kzoo import schedules
from kzoo.options import Count, Width
from kzoo.specs import MethodSpec
from kzoo_distillation.specs.masked import MaskedOptions
from kzoo_distillation.specs.multicrop import AREA, LargeView, SecondLargeView, SmallView


class DINOv2LargeView(LargeView):
    """The first large view of DINOv2."""

    scale: tuple[float, float] = Field((0.32, 1.0), description=AREA)


class DINOv2SecondLargeView(SecondLargeView):
    """The second large view of DINOv2."""

    scale: tuple[float, float] = Field((0.32, 1.0), description=AREA)


class DINOv2SmallView(SmallView):
    """Each small view of DINOv2."""

    scale: tuple[float, float] = Field((0.05, 0.32), description=AREA)


class DINOv2Options(MaskedOptions):
    view_0: DINOv2LargeView = Field(default_factory=DINOv2LargeView, description="how the first large view is made")
    view_1: DINOv2SecondLargeView = Field(
        default_factory=DINOv2SecondLargeView, description="how the second large view is made"
    )
    local_view: DINOv2SmallView = Field(default_factory=DINOv2SmallView, description="how each small view is made")
    head: tuple[Width, ...] = Field(
        (2048, 2048, 384), min_length=1, description="widths of the class token's head before the prototypes"
    )
    patch_head: tuple[Width, ...] = Field(
        (2048, 2048, 256), min_length=1, description="widths of the patches' head before the prototypes"
    )
    prototypes: Count = Field(131072, ge=2, description="outputs of each head, K")
    teacher_temperature: schedules.Positive = Field(
        default_factory=lambda: schedules.Linear(start=0.04, end=0.07, epochs=30),
        description="temperature of the teacher's targets",
    )
    momentum: schedules.Share = Field(
        default_factory=lambda: schedules.Cosine(start=0.994, end=1.0),
        description="of the teacher's moving average, after each step",
    )
    koleo: float = Field(0.1, ge=0, description="weight of what keeps class tokens apart")
    patch_lr_scale: float = Field(0.2, gt=0, description="factor on the learning rate of the patch projection")


SPEC = MethodSpec(
    name="dinov2",
    target="kzoo_distillation.dinov2:DINOv2",
    options=DINOv2Options,
    family="distillation",
    summary="DINO and iBOT with heads of their own, balanced targets, and class tokens that keep apart",
    paper="Oquab, Darcet, Moutakanni, Vo, Szafraniec et al., TMLR 2024, arXiv:2304.07193",
    requires=("embedding", "tokens", "masked_tokens"),
    any_size=True,
    least_examples=2,
    check_options={
        "head": (32, 16),
        "patch_head": (32, 16),
        "prototypes": 24,
        "local_views": 2,
        "local_size": 16,
        "freeze_epochs": 0,
        "patch_lr_scale": 1.0,
    },
)
