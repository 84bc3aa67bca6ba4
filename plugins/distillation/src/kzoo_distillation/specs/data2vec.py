"""What `data2vec` is, and what can be set."""

from pydantic import Field

from kzoo import schedules
from kzoo.options import Depth, ImageOptions, ViewOptions
from kzoo.specs import MethodSpec


class Data2VecView(ViewOptions):
    """The view of data2vec, BEiT's: brightness, contrast and saturation always change, and nothing else."""

    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.4, 0.0), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    jitter_p: float = Field(1.0, ge=0, le=1, description="probability of colour jitter")
    greyscale_p: float = Field(0.0, ge=0, le=1, description="probability of greyscale")
    blur_p: float = Field(0.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class Data2VecOptions(ImageOptions):
    view: Data2VecView = Field(default_factory=Data2VecView, description="how the view is made")
    hidden: float = Field(
        0.6125, gt=0, lt=1, description="share of the patches that are hidden, at most: 120 of 196 patches"
    )
    blocks: Depth = Field(6, ge=1, description="upper blocks of the teacher that the target is the mean of")
    beta: float = Field(2.0, gt=0, description="distance from which on the smooth L1 loss is linear")
    momentum: schedules.Share = Field(0.9998, description="of the teacher's moving average, after each step")


SPEC = MethodSpec(
    name="data2vec",
    target="kzoo_distillation.data2vec:Data2Vec",
    options=Data2VecOptions,
    family="distillation",
    summary="Predict, for hidden patches, the mean of the upper blocks of a moving average that sees them",
    paper="Baevski, Hsu, Xu, Babu, Gu, Auli, ICML 2022, arXiv:2202.03555",
    requires=("tokens", "masked_tokens"),
    check_options={"blocks": 2, "momentum": 0.99},
)
