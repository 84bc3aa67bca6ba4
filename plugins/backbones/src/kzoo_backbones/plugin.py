"""The records of kzoo's own backbones. Light: the networks are imported on use."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import BackboneSpec
from kzoo_backbones.options import (
    ConvNet4Options,
    ResNetOptions,
    SmallResNetOptions,
    VisionTransformerOptions,
    VisionTransformerTinyOptions,
)

RESNET_PAPER = "He et al. 2016, arXiv:1512.03385"
VIT_PAPER = "Dosovitskiy et al. 2021, arXiv:2010.11929"


@hookimpl
def kzoo_backbones() -> Iterator[BackboneSpec]:
    for name, summary in (
        ("resnet18", "ResNet-18, 512-wide embedding, 11.2 M parameters"),
        ("resnet34", "ResNet-34, 512-wide embedding, 21.3 M parameters"),
        ("resnet50", "ResNet-50 with the stride in the 3x3 layers, 2048-wide embedding, 23.5 M parameters"),
    ):
        yield BackboneSpec(
            name=name,
            target=f"kzoo_backbones.resnet:{name}",
            options=ResNetOptions,
            family="resnet",
            summary=summary,
            paper=RESNET_PAPER,
            offers=("embedding", "map", "map_1", "map_2", "map_3"),
            any_size=True,
            strides=(1, 2, 4, 8),
        )
    yield BackboneSpec(
        name="small_resnet",
        target="kzoo_backbones.resnet:small_resnet",
        options=SmallResNetOptions,
        family="resnet",
        summary="Three residual blocks, 128-wide embedding, 0.3 M parameters: trains on a CPU",
        paper=RESNET_PAPER,
        offers=("embedding", "map", "map_1", "map_2"),
        any_size=True,
        strides=(1, 2, 4),
    )
    yield BackboneSpec(
        name="convnet4",
        target="kzoo_backbones.convnet:convnet4",
        options=ConvNet4Options,
        family="convnet",
        summary="Four convolutions with pooling, 64-wide embedding, 0.1 M parameters: the few-shot standard",
        paper="Vinyals et al. 2016, arXiv:1606.04080",
        offers=("embedding", "map", "map_1", "map_2", "map_3"),
        min_size=16,
        any_size=True,
        strides=(2, 4, 8, 16),
    )
    for name, options, summary, min_size in (
        ("vit_tiny", VisionTransformerTinyOptions, "ViT-Ti on patches of 4, 192 wide, 5.3 M parameters", 4),
        ("vit_small", VisionTransformerOptions, "ViT-S on patches of 16, 384 wide, 21.6 M parameters", 16),
        ("vit_base", VisionTransformerOptions, "ViT-B on patches of 16, 768 wide, 85.6 M parameters", 16),
    ):
        yield BackboneSpec(
            name=name,
            target=f"kzoo_backbones.vit:{name}",
            options=options,
            family="vit",
            summary=summary,
            paper=VIT_PAPER,
            offers=("embedding", "tokens"),
            min_size=min_size,
            any_size=True,
            abilities=("token_subset", "masked_tokens"),
            check_options={} if name == "vit_tiny" else {"depth": 2},  # more of the same, and large
        )
