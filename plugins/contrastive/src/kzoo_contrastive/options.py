"""Options of the contrastive methods. Light: pydantic only."""

from typing import Literal, Self

from kzoo_backbones.options import BackboneOptions
from pydantic import Field, model_validator

from kzoo import schedules
from kzoo.options import Count, Depth, ImageOptions, Options, Pixels, ViewOptions, Width


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


class MoCoV1View(ViewOptions):
    """MoCo v1's view, that of instance discrimination: jitter always, no blur."""

    scale: tuple[float, float] = Field((0.2, 1.0), description="area of the random crop, as a share of the image")
    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.4, 0.4), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    jitter_p: float = Field(1.0, ge=0, le=1, description="probability of colour jitter")
    blur_p: float = Field(0.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class BankOptions(ImageOptions):
    """What methods with a memory bank share."""

    temperature: float = Field(0.07, gt=0, description="what similarities are divided by")
    momentum: float = Field(0.5, ge=0, lt=1, description="share of the old entry that a bank's new entry keeps")
    projector: tuple[Width, ...] = Field((128,), min_length=1, description="widths of the projector's Dense layers")


class InstDiscOptions(BankOptions):
    noise: Count | None = Field(
        4096, description="entries that each example is told from; none: the softmax over all examples"
    )
    proximal: float = Field(
        0.0, ge=0, description="weight of the squared distance to the old entry; 30 in the paper, with momentum 0"
    )
    view: MoCoV1View = Field(default_factory=MoCoV1View, description="how the view is made")


class LocalAggregationOptions(BankOptions):
    background: Count = Field(4096, description="nearest entries that are an image's background neighbours")
    clusters: Count = Field(30000, ge=2, description="clusters of each k-means clustering")
    clusterings: Count = Field(10, description="clusterings; sharing a cluster in one makes a neighbour close")
    iterations: Count = Field(25, description="most iterations of k-means")
    warmup_epochs: int = Field(10, ge=0, le=100_000, description="first epochs, which are instance discrimination")
    noise: Count = Field(4096, description="entries that each example is told from in the warm-up")
    view: MoCoV1View = Field(default_factory=MoCoV1View, description="how the view is made")


class MoCoV2View(ViewOptions):
    """MoCo v2's view: weaker hue jitter, not always, and blur."""

    scale: tuple[float, float] = Field((0.2, 1.0), description="area of the random crop, as a share of the image")


class MoCoV1Options(ImageOptions):
    temperature: float = Field(0.07, gt=0, description="softmax temperature of InfoNCE")
    momentum: float = Field(0.999, ge=0, le=1, description="momentum of the key encoder's moving average")
    queue: Count = Field(65536, description="number of negatives; a multiple of the global batch")
    projector: tuple[Width, ...] = Field((128,), min_length=1, description="widths of the projector's Dense layers")
    batch_norm: Literal["groups", "shared"] = Field(
        "groups",
        description="groups: statistics of `groups` equal parts of the batch, the keys shuffled over them (shuffle BN "
        "on several devices, split BN on one); shared: statistics of the whole batch, which leak the answer",
    )
    groups: Count = Field(8, description="parts of the global batch with batch statistics of their own")
    decoupled: bool = Field(False, description="leave the positive out of the denominator (decoupled contrastive loss)")
    view: MoCoV1View = Field(default_factory=MoCoV1View, description="how the query and the key view are made")


class MoCoV2Options(MoCoV1Options):
    temperature: float = Field(0.2, gt=0, description="softmax temperature of InfoNCE")
    projector: tuple[Width, ...] = Field(
        (2048, 128), min_length=1, description="widths of the projector's Dense layers"
    )
    view: MoCoV2View = Field(default_factory=MoCoV2View, description="how the query and the key view are made")  # type: ignore[assignment]


class DeepInfoMaxEncoderOptions(BackboneOptions):
    """Options of `deep_infomax_encoder`."""

    width: Width = Field(64, description="channels of the first layer; each later one has twice as many")


class DeepInfoMaxOptions(ImageOptions):
    estimator: Literal["jsd", "dv", "info_nce"] = Field(
        "jsd",
        description="of the mutual information: jsd, Jensen-Shannon; dv, Donsker-Varadhan; info_nce, which gains most "
        "from large batches",
    )
    local: str = Field(
        "map", description="the backbone's feature map whose locations are scored: map, map_1, ...; 8x8 in the paper"
    )
    local_weight: float = Field(1.0, ge=0, description="weight of the local term (beta); 0 leaves it out")
    global_weight: float = Field(0.0, ge=0, description="weight of the global term (alpha); 0 leaves it out")
    prior_weight: float = Field(0.1, ge=0, description="weight of matching the prior (gamma); 0 leaves it out")
    fc_width: Width = Field(1024, description="width of the layer between embedding and code")
    code_width: Width = Field(64, description="width of the code E(x)")
    units: Width = Field(2048, description="width of the space in which scores are dot products")
    flip: float = Field(0.0, ge=0, le=1, description="probability of a horizontal flip")
    crop: float = Field(1.0, gt=0, le=1, description="side of a random square crop, as a share of the image's")

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if not (self.local_weight or self.global_weight):
            raise ValueError("local_weight and global_weight are both 0; one of them must be learnt from")
        return self


class AMDIMEncoderOptions(BackboneOptions):
    """Options of `amdim_encoder`; the paper's largest has width 192, rkhs 1536 and depth 8."""

    width: Width = Field(128, description="channels of the first layer (ndf)")
    rkhs: Width = Field(1024, description="width of the embedding (n_rkhs)")
    depth: Depth = Field(3, ge=1, description="residual units in each block")
    batch_norm: bool = Field(
        False, description="normalise inside too; the embedding is normalised over the batch in any case"
    )
    zero_init_residual: bool = Field(
        True, description="start each residual branch at zero (its last kernel), so that a unit is its shortcut"
    )


class AMDIMView(ViewOptions):
    """AMDIM's view: no blur, and one flip for both views."""

    scale: tuple[float, float] = Field((0.3, 1.0), description="area of the random crop, as a share of the image")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip of both views")
    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.4, 0.2), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    greyscale_p: float = Field(0.25, ge=0, le=1, description="probability of greyscale")
    blur_p: float = Field(0.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class AMDIMOptions(ImageOptions):
    crop: Literal["shift", "resized"] = Field(
        "resized",
        description="shift: by up to an eighth of the side, mirrored at the edges, as for CIFAR; "
        "resized: a random crop, resized, as for STL-10 and ImageNet",
    )
    local_sides: tuple[Depth, Depth] = Field(
        (5, 7),
        description="sides of the two feature maps: the coarser, whose locations are also sources, and the finer",
    )
    clip: float = Field(20.0, gt=0, description="scores are clipped to clip * tanh(score / clip)")
    regulariser: float = Field(0.04, ge=0, description="weight of the mean squared score")
    batch_norm: bool = Field(False, description="normalise inside the heads too; their output is in any case")
    view: AMDIMView = Field(default_factory=AMDIMView, description="how each of the two views is made")


class CMCView(ViewOptions):
    """CMC's view: crop and flip; jitter would change one of lightness and colour more than the other."""

    scale: tuple[float, float] = Field((0.2, 1.0), description="area of the random crop, as a share of the image")
    jitter_p: float = Field(0.0, ge=0, le=1, description="probability of colour jitter")
    greyscale_p: float = Field(0.0, ge=0, le=1, description="probability of greyscale")
    blur_p: float = Field(0.0, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")


class CMCOptions(BankOptions):
    views: tuple[Literal["l", "ab", "a", "b", "low", "high"], ...] = Field(
        ("l", "ab"),
        min_length=2,
        description="what each view sees: channels of Lab, or the low or high frequencies of L, which grey images have "
        "too; the first view's encoder is the backbone",
    )
    sigma: float = Field(1.0, gt=0, description="blur in pixels that parts the low from the high frequencies")
    graph: Literal["full", "core"] = Field(
        "full", description="full: contrast all pairs of views; core: those with the first view"
    )
    noise: Count | None = Field(
        4096, description="entries of a bank that each example is told from; none: the softmax over all examples"
    )
    view: CMCView = Field(default_factory=CMCView, description="how the image is cropped before it is split in views")

    @model_validator(mode="after")
    def _different_views(self) -> "CMCOptions":
        if len(set(self.views)) < len(self.views):
            raise ValueError(f"views: expected different views. Received: {', '.join(self.views)}")
        return self

    def image_channels(self) -> tuple[int, ...]:
        """Colours are asked for where a view shows them."""
        return (3,) if {"a", "b", "ab"} & set(self.views) else (1, 3)


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


class CPCOptions(ImageOptions):
    grid: Depth = Field(7, ge=3, description="patches in a row, and rows of patches; they overlap")
    patch: float = Field(0.25, gt=0, lt=1, description="side of a patch as a share of the image's; 8 pixels at least")
    steps: Depth = Field(5, ge=1, description="largest distance in rows at which patches are predicted")
    skip: Depth = Field(0, description="nearest distances that are left out; patches there overlap the context's")
    context_layers: Depth = Field(5, ge=1, description="residual layers of the context network; each sees a row more")
    context_width: Width = Field(256, description="channels inside the context network's layers")
    crop: float = Field(
        260 / 300, gt=0, le=1, description="side of the random square crop of the image, as a share of the image's"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip of the image")
    greyscale_p: float = Field(0.5, ge=0, le=1, description="probability of greyscale, the same for all patches")
    downstream: Literal["patches", "image"] = Field(
        "patches",
        description="what an image's embedding is: patches, the mean over those of the grid, as in the paper; "
        "image, that of the image as a whole",
    )
    batch_norm: bool = Field(
        False, description="accept a backbone with batch normalisation, through which patches see each other"
    )

    @model_validator(mode="after")
    def _reaches_a_row(self) -> Self:
        if not self.skip < self.steps < self.grid:
            raise ValueError(
                f"expected skip < steps < grid, or there is nothing to predict. Received: {self.skip}, {self.steps}, "
                f"{self.grid}"
            )
        return self


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
