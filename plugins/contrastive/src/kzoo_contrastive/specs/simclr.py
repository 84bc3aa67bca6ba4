"""What `simclr` is, and what can be set."""

from pydantic import Field, model_validator

from kzoo.options import Depth, ImageOptions, ViewOptions, Width
from kzoo.specs import MethodSpec


class SimCLRView(ViewOptions):
    """SimCLR's view at strength s = 1: jitter of 0.8 s, 0.8 s, 0.8 s, 0.2 s."""

    jitter: tuple[float, float, float, float] = Field(
        (0.8, 0.8, 0.8, 0.2), description="strengths of brightness, contrast, saturation and hue jitter"
    )


class SimCLROptions(ImageOptions):
    temperature: float = Field(0.1, gt=0, description="softmax temperature of NT-Xent")
    projector: tuple[Width, ...] = Field(
        (2048, 128), min_length=1, description="widths of the projector's Dense layers; SimCLR v2 has three"
    )
    keep: Depth = Field(
        0, description="layers of the projector, from its first, that go downstream; SimCLR v2 keeps one"
    )
    decoupled: bool = Field(False, description="leave the positive out of the denominator (decoupled contrastive loss)")
    view: SimCLRView = Field(default_factory=SimCLRView, description="how each of the two views is made")

    @model_validator(mode="after")
    def _keeps_hidden_layers(self) -> "SimCLROptions":
        if self.keep >= len(self.projector):
            raise ValueError(f"keep: the projector has {len(self.projector)} layers, of which the last cannot be kept")
        return self


SPEC = MethodSpec(
    name="simclr",
    least_examples=2,
    target="kzoo_contrastive.simclr:SimCLR",
    options=SimCLROptions,
    family="contrastive",
    summary="Contrast two augmented views of each image with all other views of the batch",
    paper="Chen, Kornblith, Norouzi, Hinton, ICML 2020, arXiv:2002.05709",
    check_options={"projector": (32, 16)},
)
