"""The options of the keras.applications backbones."""

from typing import Literal

from pydantic import Field

from kzoo.options import Options


class KerasApplicationsOptions(Options):
    """What all keras.applications backbones share."""

    weights: Literal["imagenet"] | None = Field(
        None,
        description="imagenet: start from Keras' weights, trained with labels on ImageNet, which are downloaded; "
        "none: start at random",
    )
