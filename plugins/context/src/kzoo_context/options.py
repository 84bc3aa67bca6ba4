"""Options of the context-prediction methods. Light: pydantic only."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from kzoo.options import Count, ImageOptions, Pixels, Side, Width


class RotationOptions(ImageOptions):
    crop: Literal["pad", "resized"] = Field(
        "pad", description="pad: pad by `padding` and crop back (CIFAR); resized: random resized crop (ImageNet)"
    )
    padding: Pixels = Field(4, description="pixels of padding before the crop")
    border: Literal["reflect", "zeros"] = Field(
        "reflect", description="what the padding shows: the image mirrored; or zeros, black, as in the authors' code"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip before rotating")
    feature: str = Field(
        "embedding",
        description="output of the backbone that goes downstream as the embedding, averaged over positions; the "
        "paper's best on CIFAR is that of its second block, as map_2",
    )


class PartsOptions(ImageOptions):
    """Options of the methods that show the network parts of images."""

    size: Side | None = Field(
        None,
        ge=16,
        description="side in pixels that images are resized to, before parts are cut out and downstream; none: the "
        "size of the dataset's images",
    )


class RelativePositionOptions(PartsOptions):
    patch: Pixels | None = Field(None, ge=4, description="side of a patch in pixels; none: 0.3 of the image's side")
    gap: Pixels | None = Field(None, description="pixels between neighbouring patches; none: half a patch")
    jitter: Pixels | None = Field(
        None,
        ge=0,
        description="most pixels by which each patch is moved in each direction; none: 7/96 of a patch, at least 1",
    )
    pairs: Count = Field(4, description="pairs of patches cut from each image; each is asked about in both orders")
    shrink: float = Field(
        1.0,
        gt=0,
        le=1,
        description="least share of its pixels that an image is shrunk to at random before patches are cut; the paper: "
        "1/3 (images of 150,000 to 450,000 pixels); 1: never",
    )
    coarsen: float = Field(
        0.33, ge=0, le=1, description="probability that a patch loses resolution, down to 1 % of its pixels"
    )
    colour: Literal["drop", "project", "keep"] = Field(
        "drop",
        description="drop: keep one channel of each patch, noise in the others; project: take away the green-magenta "
        "axis on which lenses disperse colour; keep: as it is. Grey images stay as they are",
    )
    rms: float = Field(50.0, gt=0, description="root mean square that each centred patch is scaled to")
    features: Width = Field(4096, description="width of the layer on each patch (fc6)")
    hidden: tuple[Width, ...] = Field((4096, 4096), description="widths of the layers on both patches (fc7, fc8)")


class JigsawOptions(PartsOptions):
    grid: int = Field(3, ge=2, le=3, description="tiles along each side of the puzzle")
    permutations: int = Field(100, ge=2, le=2000, description="number of orders to tell apart; the paper's best: 1000")
    crop: float = Field(
        1.0,
        gt=0,
        le=1,
        description="side of the puzzle as a share of the image's; the paper: 0.879 (225 of 256 pixels)",
    )
    tile: float = Field(
        64 / 75, gt=0, le=1, description="side of a tile as a share of its cell's; it lies at random in the cell"
    )
    channel_shift: float = Field(
        2 / 75,
        ge=0,
        lt=0.5,
        description="most that each colour channel of a tile is moved by, as a share of the cell's side",
    )
    greyscale: float = Field(0.3, ge=0, le=1, description="probability of a grey puzzle")
    channel_scale: float = Field(0.2, ge=0, lt=1, description="most that each channel of a tile is scaled by, +-")
    brightness: float = Field(5 / 255, ge=0, le=1, description="most that is added to or taken from a tile")
    features: Width = Field(1024, description="width of the layer on each tile (fc6)")
    hidden: tuple[Width, ...] = Field((4096,), description="widths of the layers on all tiles (fc7)")
    dropout: float = Field(
        0.5, ge=0, lt=1, description="share of each tile's features, and of the hidden layers', left out in training"
    )

    @model_validator(mode="after")
    def _enough_orders(self) -> Self:
        orders = math.factorial(self.grid**2)
        if self.permutations > orders:
            raise ValueError(f"permutations: {self.grid**2} tiles have {orders} orders. Received: {self.permutations}")
        return self


class ExemplarOptions(PartsOptions):
    form: Literal["classes", "triplet"] = Field(
        "classes",
        description="classes: name the seed among all (the paper); triplet: transforms of one seed must lie nearer to "
        "each other than to any other's (S4L), for more seeds than a last layer can hold, some 16,000",
    )
    patch: Pixels | None = Field(
        None, ge=8, description="side in pixels of the seed patch of each image (the paper: 32); none: the whole image"
    )
    views: Count | None = Field(
        None, description="transforms of each seed in a batch; none: 1 for form classes, 8 for triplet (S4L)"
    )
    translation: float = Field(0.2, ge=0, le=1, description="largest shift along each axis, as a share of the patch")
    scale: tuple[float, float] = Field((0.7, 1.4), description="range of the factor on the size of the patch")
    rotation: float = Field(20.0, ge=0, le=180, description="largest turn, in degrees")
    contrast: tuple[float, float] = Field(
        (0.5, 2.0), description="range of the factor on each principal component of colour"
    )
    hsv: bool = Field(True, description="bend saturation and value by a power, scale and shift them, turn the hue")
    dropout: float = Field(0.5, ge=0, lt=1, description="form classes: share of the embedding left out in training")
    width: Width = Field(1000, description="form triplet: width of the projection that is compared")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("scale", "contrast"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: expected 0 < low <= high. Received: {low}, {high}")
        if self.form == "triplet" and self.views == 1:
            raise ValueError("views: form triplet compares transforms of one seed, at least 2. Received: 1")
        return self
