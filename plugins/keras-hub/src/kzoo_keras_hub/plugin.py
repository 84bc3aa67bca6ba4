"""The records of the KerasHub backbones. Light: KerasHub is imported on use."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import BackboneSpec
from kzoo_keras_hub.options import ResNetOptions, TransformerOptions

# name, summary, paper, abilities
TRANSFORMERS = (
    (
        "vit",
        "vision transformer with learned positions",
        "Dosovitskiy et al. 2021, arXiv:2010.11929",
        ("token_subset", "masked_tokens"),
    ),
    (
        "dinov2",
        "DINOv2's vision transformer, with register tokens where the preset has them",
        "Oquab et al. 2023, arXiv:2304.07193",
        ("token_subset", "masked_tokens"),
    ),
    (
        "dinov3",
        "DINOv3's vision transformer, whose positions rotate queries and keys",
        "Siméoni et al. 2025, arXiv:2508.10104",
        (),
    ),
)


@hookimpl
def kzoo_backbones() -> Iterator[BackboneSpec]:
    yield BackboneSpec(
        name="keras_hub/resnet",
        target="kzoo_keras_hub.backbones:resnet",
        options=ResNetOptions,
        family="resnet",
        summary="KerasHub: ResNet, v1 or v2, from a preset's weights or at random",
        paper="He et al. 2016, arXiv:1512.03385",
        offers=("embedding", "map", "map_1", "map_2", "map_3"),
        any_size=True,
        check_options={"blocks": (1, 1, 1, 1)},
    )
    for name, summary, paper, abilities in TRANSFORMERS:
        yield BackboneSpec(
            name=f"keras_hub/{name}",
            target=f"kzoo_keras_hub.backbones:{name}",
            options=TransformerOptions,
            family="vit",
            summary=f"KerasHub: {summary}, from a preset's weights or at random",
            paper=paper,
            offers=("embedding", "tokens"),
            min_size=16,
            any_size=True,
            abilities=abilities,
            check_options={"depth": 2, "width": 32, "heads": 2},
        )
