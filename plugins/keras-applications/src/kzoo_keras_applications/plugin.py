"""The records of the keras.applications backbones. Light: Keras is imported on use."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import BackboneSpec
from kzoo_keras_applications.options import KerasApplicationsOptions

# name, family, summary, paper, feature maps
BACKBONES = (
    (
        "resnet50",
        "resnet",
        "ResNet-50, 2048-wide embedding, 23.6 M parameters",
        "He et al. 2016, arXiv:1512.03385",
        4,
    ),
    (
        "convnext_tiny",
        "convnext",
        "ConvNeXt-T, 768-wide embedding, 27.8 M parameters",
        "Liu et al. 2022, arXiv:2201.03545",
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
        "mobilenetv3_small",
        "mobilenet",
        "MobileNetV3-Small, 576-wide embedding, 0.9 M parameters",
        "Howard et al. 2019, arXiv:1905.02244",
        4,
    ),
)


@hookimpl
def kzoo_backbones() -> Iterator[BackboneSpec]:
    for name, family, summary, paper, maps in BACKBONES:
        yield BackboneSpec(
            name=f"keras_applications/{name}",
            target=f"kzoo_keras_applications.backbones:{name}",
            options=KerasApplicationsOptions,
            family=family,
            summary=f"keras.applications: {summary}, ImageNet weights on request",
            paper=paper,
            offers=("embedding", "map", *(f"map_{level}" for level in range(1, maps))),
            strides=(2, 4, 8, 16, 32)[-maps:],
        )
