"""What `moco_v3` is, and what can be set."""

from pydantic import Field, model_validator

from kzoo import schedules
from kzoo.options import ImageOptions, ViewOptions, Width
from kzoo.specs import MethodSpec


class MoCoV3View(ViewOptions):
    """The first view of MoCo v3, BYOL's: weaker saturation jitter than MoCo v2's, always blurred."""

    scale: tuple[float, float] = Field((0.2, 1.0), description="area of the random crop, as a share of the image")
    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.2, 0.1), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    blur_p: float = Field(1.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class MoCoV3SecondView(MoCoV3View):
    """The second view of MoCo v3: seldom blurred, sometimes solarized."""

    blur_p: float = Field(0.1, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")
    solarize_p: float = Field(0.2, ge=0, le=1, description="probability of inverting all values above one half")


class MoCoV3Options(ImageOptions):
    temperature: float = Field(1.0, gt=0, description="softmax temperature; 0.2 for ViT")
    momentum: schedules.Share = Field(
        default_factory=lambda: schedules.Cosine(start=0.99, end=1.0),
        description="momentum of the key encoder's moving average",
    )
    projector: tuple[Width, ...] = Field(
        (4096, 256), min_length=1, description="widths of the projector's Dense layers; three for ViT"
    )
    predictor: tuple[Width, ...] = Field(
        (4096, 256), min_length=1, description="widths of the predictor's Dense layers"
    )
    predictor_norm: bool = Field(False, description="normalise the predictor's output over the batch; true for ViT")
    freeze_patches: bool = Field(True, description="keep the patch projection of a ViT as it was initialised")
    view_0: MoCoV3View = Field(default_factory=MoCoV3View, description="how the first view is made")
    view_1: MoCoV3SecondView = Field(default_factory=MoCoV3SecondView, description="how the second view is made")

    @model_validator(mode="after")
    def _same_width(self) -> "MoCoV3Options":
        if self.projector[-1] != self.predictor[-1]:
            raise ValueError(
                f"predictor: must end as wide as the projector, {self.projector[-1]}. Received: {self.predictor[-1]}"
            )
        return self


SPEC = MethodSpec(
    name="moco_v3",
    least_examples=2,
    target="kzoo_contrastive.moco_v3:MoCoV3",
    options=MoCoV3Options,
    family="contrastive",
    summary="MoCo without a queue and with a predictor; stable with vision transformers",
    paper="Chen, Xie, He, ICCV 2021, arXiv:2104.02057",
    check_options={"projector": (32, 16), "predictor": (32, 16)},
)
