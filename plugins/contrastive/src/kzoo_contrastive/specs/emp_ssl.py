"""What `emp_ssl` is, and what can be set."""

from pydantic import Field

from kzoo.options import Count, ImageOptions, Pixels, ViewOptions, Width
from kzoo.specs import MethodSpec


class EMPSSLView(ViewOptions):
    """A patch of EMP-SSL: square, a quarter of the image's area."""

    scale: tuple[float, float] = Field((0.25, 0.25), description="area of a patch, as a share of the image")
    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.4, 0.2), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    blur_p: float = Field(0.1, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")
    solarize_p: float = Field(0.1, ge=0, le=1, description="probability of inverting all values above one half")


class EMPSSLOptions(ImageOptions):
    patches: Count = Field(100, ge=2, description="patches of each image in a step")
    patch_size: Pixels | None = Field(
        None, ge=8, description="side in pixels that patches are resized to; none: that of the image"
    )
    invariance: float = Field(200.0, ge=0, description="weight of the similarity of an image's patches to their mean")
    epsilon: float = Field(0.2, gt=0, description="distortion of the coding rate, the square of the paper's")
    projector: tuple[Width, ...] = Field(
        (4096, 4096, 1024),
        min_length=2,
        description="widths of the Dense layers; the first one's output is the feature",
    )
    bag: Count = Field(128, description="patches whose mean feature represents an image in the evaluation")
    view: EMPSSLView = Field(default_factory=EMPSSLView, description="how each patch is made")


SPEC = MethodSpec(
    name="emp_ssl",
    least_examples=2,
    target="kzoo_contrastive.emp_ssl:EMPSSL",
    options=EMPSSLOptions,
    family="contrastive",
    summary="Give the many patches of an image one code, and spread the codes of a batch",
    paper="Tong, Chen, Ma, LeCun 2023, arXiv:2304.03977",
    any_size=True,
    check_options={"patches": 4, "projector": (32, 32, 16), "bag": 4},
)
