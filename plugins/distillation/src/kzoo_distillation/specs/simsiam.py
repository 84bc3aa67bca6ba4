"""What `simsiam` is, and what can be set."""

from pydantic import Field

from kzoo.options import ViewOptions, Width
from kzoo.specs import MethodSpec
from kzoo_distillation.specs.twins import TwinsOptions


class SimSiamView(ViewOptions):
    """Each view of SimSiam, MoCo v2's."""

    scale: tuple[float, float] = Field((0.2, 1.0), description="area of the random crop, as a share of the image")


class SimSiamOptions(TwinsOptions):
    projector: tuple[Width, ...] = Field(
        (2048, 2048, 2048), min_length=1, description="widths of the projector's Dense layers; two of them for CIFAR"
    )
    bottleneck: Width = Field(512, description="width of the predictor's hidden layer")
    view_0: SimSiamView = Field(default_factory=SimSiamView, description="how the first view is made")
    view_1: SimSiamView = Field(default_factory=SimSiamView, description="how the second view is made")


SPEC = MethodSpec(
    name="simsiam",
    target="kzoo_distillation.simsiam:SimSiam",
    options=SimSiamOptions,
    family="distillation",
    summary="Predict from one view what the same network makes of the other, held still",
    paper="Chen, He, CVPR 2021, arXiv:2011.10566",
    least_examples=2,
    check_options={"projector": (32, 32), "bottleneck": 16},
)
