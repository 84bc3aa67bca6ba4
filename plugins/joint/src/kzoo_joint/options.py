"""Options of the methods that learn from labels. Light: pydantic only."""

from typing import Literal

from pydantic import Field

from kzoo.options import Count, ImageOptions, Options, Pixels, Width


class ClassifierOptions(ImageOptions):
    crop: Literal["pad", "resized"] = Field(
        "pad", description="pad: pad by `padding` and crop back (CIFAR); resized: random resized crop (ImageNet)"
    )
    padding: Pixels = Field(4, description="pixels of mirrored padding before the crop")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")


class SupervisedOptions(ClassifierOptions):
    backbone_rate: float = Field(
        1.0,
        ge=0,
        description="factor on the learning rate of the backbone, where it begins with trained weights; 0: only the "
        "linear head learns, and the backbone stays as it is",
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor on the learning rate from one eighth of the backbone to the one before it, which is nearer "
        "to the input; 1: all learn alike",
    )


class S4LRotationOptions(ClassifierOptions):
    weight: float = Field(1.0, ge=0, description="of the loss of the turns, beside that of the classes")


class S4LExemplarOptions(ImageOptions):
    views: Count = Field(8, ge=2, description="random crops of each image in a batch")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    scale: tuple[float, float] = Field((0.08, 1.0), description="area of a crop, as a share of the image")
    hsv: bool = Field(True, description="bend saturation and value by a power, scale and shift them, turn the hue")
    width: Width = Field(1000, description="of the projection that is compared")
    weight: float = Field(1.0, ge=0, description="of the triplet loss, beside that of the classes")


class SLAOptions(ClassifierOptions):
    versions: Literal["none", "turns", "colours", "both"] = Field(
        "turns",
        description="what each image is shown as: itself; its 4 turns; its 6 orders of the colour channels; all 24",
    )
    summed: bool = Field(
        False, description="the loss is a sum over the versions, as for ImageNet; false: their mean, as for CIFAR"
    )
    aggregate: bool = Field(
        True, description="name classes by the mean over all versions; false: by the image as it is, one forward pass"
    )

    def image_channels(self) -> tuple[int, ...] | None:
        return (3,) if self.versions in ("colours", "both") else None


class SLASDOptions(ClassifierOptions):
    versions: Literal["turns", "colours", "both"] = Field(
        "turns", description="what each image is shown as: its 4 turns; its 6 orders of the colour channels; all 24"
    )
    summed: bool = Field(
        False, description="the joint loss is a sum over the versions, as for ImageNet; false: their mean, as for CIFAR"
    )
    beta: float = Field(1.0, ge=0, description="weight of the cross-entropy of the single head")
    temperature: float = Field(1.0, gt=0, description="at which the single head imitates the mean over all versions")

    def image_channels(self) -> tuple[int, ...] | None:
        return (3,) if self.versions in ("colours", "both") else None


class _Consistency(Options):
    dropout: float = Field(
        0.1, ge=0, lt=1, description="share of the embedding left out; 0: the backbone's dropout is all there is"
    )
    alpha: float = Field(1.0, ge=0, description="weight of the divergence between the two answers")


class RDropOptions(_Consistency, ClassifierOptions):
    pass


class RDropTextOptions(_Consistency):
    pass
