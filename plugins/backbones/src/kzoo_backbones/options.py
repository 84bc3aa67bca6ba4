"""The options of kzoo's own backbones."""

from typing import Literal

from pydantic import Field

from kzoo.options import Depth, ImageBackboneOptions, Pixels, Width


class SmallResNetOptions(ImageBackboneOptions):
    """Options of `small_resnet`."""

    width: Width = Field(32, description="channels of the first stage; each later stage has twice as many")
    zero_init_residual: bool = Field(
        False,
        description="start each residual branch at zero, so a block is its shortcut: the scale of its last "
        "normalisation, or, with norm: none, its last kernel (Fixup)",
    )
    norm: Literal["batch", "layer", "none"] = Field(
        "batch",
        description="normalisation: batch; layer, over all units of a layer, example by example; none: biases instead",
    )


class ResNetOptions(SmallResNetOptions):
    """Options of the ResNets."""

    stem: Literal["cifar", "imagenet"] = Field(
        "cifar", description="cifar: one 3x3 layer, for small images; imagenet: 7x7 with stride 2, then pooling"
    )
    width: Width = Field(64, description="channels of the first stage; each later stage has twice as many")


class ConvNet4Options(ImageBackboneOptions):
    """Options of `convnet4`."""

    width: Width = Field(64, description="channels of every layer")


class VisionTransformerOptions(ImageBackboneOptions):
    """Options of `vit_small` and `vit_base`."""

    patch_size: Pixels = Field(16, ge=1, description="side of a patch in pixels; must divide the image's sides")
    depth: Depth = Field(12, ge=1, description="number of transformer blocks")
    width: Width | None = Field(
        None,
        multiple_of=4,
        description="units of a token; none: 192 of vit_tiny, 384 of vit_small, 768 of vit_base",
    )
    heads: Depth | None = Field(
        None,
        ge=1,
        description="attention heads; must divide the width; none: as many as give each 64 (MoCo v3's ViT-S has 12)",
    )
    class_token_std: float = Field(
        0.02, ge=0, description="standard deviation that the class token is drawn with (MoCo v3: 1e-6)"
    )
    pool: Literal["class_token", "mean"] = Field(
        "class_token", description="what the embedding is: the class token, or the mean of the tokens, without one"
    )


class VisionTransformerTinyOptions(VisionTransformerOptions):
    """Options of `vit_tiny`."""

    patch_size: Pixels = Field(4, ge=1, description="side of a patch in pixels; must divide the image's sides")
