"""What `byol` is, and what can be set."""

from typing import Self

from pydantic import Field, model_validator

from kzoo import schedules
from kzoo.options import ViewOptions, Width
from kzoo.specs import MethodSpec
from kzoo_distillation.specs.twins import TwinsOptions

JITTER = (0.4, 0.4, 0.2, 0.1)


class BYOLView(ViewOptions):
    """The first view of BYOL: weak saturation jitter, always blurred."""

    jitter: tuple[float, float, float, float] = Field(
        JITTER, description="strengths of brightness, contrast, saturation and hue jitter"
    )
    blur_p: float = Field(1.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class BYOLSecondView(BYOLView):
    """The second view of BYOL: seldom blurred, sometimes solarised."""

    blur_p: float = Field(0.1, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")
    solarize_p: float = Field(0.2, ge=0, le=1, description="probability of inverting all values above one half")


class BYOLOptions(TwinsOptions):
    projector: tuple[Width, ...] = Field(
        (4096, 256), min_length=1, description="widths of the projector's Dense layers"
    )
    predictor: tuple[Width, ...] = Field(
        (4096, 256), min_length=1, description="widths of the predictor's Dense layers"
    )
    momentum: schedules.Share = Field(
        default_factory=lambda: schedules.Cosine(start=0.99, end=1.0),
        description="of the target's moving average, after each step; from 0.996 in 1000 epochs",
    )
    view_0: BYOLView = Field(default_factory=BYOLView, description="how the first view is made")
    view_1: BYOLSecondView = Field(default_factory=BYOLSecondView, description="how the second view is made")

    @model_validator(mode="after")
    def _same_width(self) -> Self:
        if self.projector[-1] != self.predictor[-1]:
            raise ValueError(
                f"predictor: must end as wide as the projector, {self.projector[-1]}. Received: {self.predictor[-1]}"
            )
        return self


SPEC = MethodSpec(
    name="byol",
    target="kzoo_distillation.byol:BYOL",
    options=BYOLOptions,
    family="distillation",
    summary="Predict from one view what a moving average of the network makes of the other",
    paper="Grill, Strub, Altché, Tallec, Richemond et al., NeurIPS 2020, arXiv:2006.07733",
    least_examples=2,
    check_options={"projector": (32, 16), "predictor": (32, 16)},
)
