"""What `cpc_v2` is, and what can be set."""

from pydantic import Field

from kzoo.options import Depth, Options, Width
from kzoo.specs import MethodSpec
from kzoo_contrastive.specs.cpc import CPCOptions


class PatchOptions(Options):
    """How CPC v2 changes each patch, by itself."""

    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    primitives: int = Field(
        2, ge=0, le=12, description="random changes out of AutoAugment's: five of shape, seven of colour"
    )
    warp_p: float = Field(0.2, ge=0, le=1, description="probability of elastic deformation and shearing")
    jitter: tuple[float, float, float, float] = Field(
        (0.125, 0.5, 0.5, 0.2), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    jitter_p: float = Field(0.8, ge=0, le=1, description="probability of colour jitter")
    greyscale_p: float = Field(0.25, ge=0, le=1, description="probability of greyscale")
    drop_p: float = Field(0.25, ge=0, le=1, description="probability of dropping two of the three colour channels")


class CPCV2Options(CPCOptions):
    grid: Depth = Field(6, ge=3, description="patches in a row, and rows of patches; they overlap")
    patch: float = Field(80 / 260, gt=0, lt=1, description="side of a patch as a share of the image's; at least 8 px")
    steps: Depth = Field(3, ge=1, description="largest distance in rows or columns at which patches are predicted")
    skip: Depth = Field(2, description="nearest distances that are left out; patches there overlap the context's")
    target_width: Width = Field(64, description="width of the space in which patches are predicted")
    scale: float = Field(0.1, gt=0, description="factor on the predictions")
    greyscale_p: float = Field(0.0, ge=0, le=1, description="probability of greyscale, the same for all patches")
    augment: PatchOptions = Field(default_factory=PatchOptions, description="how each patch is changed by itself")


SPEC = MethodSpec(
    name="cpc_v2",
    target="kzoo_contrastive.cpc_v2:CPCV2",
    options=CPCV2Options,
    family="contrastive",
    any_size=True,
    summary="CPC in four directions, with each patch augmented and normalised by itself",
    paper="Hénaff, Srinivas, De Fauw, Razavi, Doersch, Eslami, van den Oord, ICML 2020, arXiv:1905.09272",
    check_options={
        "grid": 4,
        "steps": 2,
        "skip": 1,
        "context_layers": 1,
        "context_width": 16,
        "target_width": 16,
        "scale": 1.0,
        "batch_norm": True,
    },
)
