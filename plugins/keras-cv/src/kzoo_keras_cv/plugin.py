"""The records of the KerasCV backbones. Light: KerasCV is imported on use."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import BackboneSpec
from kzoo_keras_cv.options import KerasCVOptions

# name, family, summary, paper, feature maps
BACKBONES = (
    (
        "resnet18_v2",
        "resnet",
        "ResNet-18 with normalisation before each layer, 512-wide embedding, 11.2 M parameters",
        "He et al. 2016, arXiv:1603.05027",
        4,
    ),
    (
        "resnet50_v2",
        "resnet",
        "ResNet-50 with normalisation before each layer, 2048-wide embedding, 23.6 M parameters",
        "He et al. 2016, arXiv:1603.05027",
        4,
    ),
    (
        "densenet121",
        "densenet",
        "DenseNet-121, 1024-wide embedding, 7.0 M parameters",
        "Huang et al. 2017, arXiv:1608.06993",
        4,
    ),
    (
        "csp_darknet_tiny",
        "darknet",
        "the smallest CSPDarkNet, 384-wide embedding, 2.4 M parameters",
        "Wang et al. 2019, arXiv:1911.11929",
        4,
    ),
    (
        "efficientnetv2_b0",
        "efficientnet",
        "EfficientNetV2-B0, 1280-wide embedding, 5.9 M parameters",
        "Tan and Le 2021, arXiv:2104.00298",
        5,
    ),
    (
        "mit_b0",
        "mit",
        "Mix Transformer B0, 256-wide embedding, 3.3 M parameters, square images",
        "Xie et al. 2021, arXiv:2105.15203",
        4,
    ),
)


@hookimpl
def kzoo_backbones() -> Iterator[BackboneSpec]:
    for name, family, summary, paper, maps in BACKBONES:
        yield BackboneSpec(
            name=f"keras_cv/{name}",
            target=f"kzoo_keras_cv.backbones:{name}",
            options=KerasCVOptions,
            family=family,
            summary=f"KerasCV: {summary}",
            paper=paper,
            offers=("embedding", "map", *(f"map_{level}" for level in range(1, maps))),
            strides=() if name == "mit_b0" else (2, 4, 8, 16, 32)[-maps:],  # mit_b0 enlarges images below 64
            check_options={"depth": 0.25},  # every kind of block in every stage; the whole takes minutes
        )
