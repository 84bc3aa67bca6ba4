"""The settings of each dataset. Light to import."""

from pydantic import Field

from kzoo.options import Count, Options, Pixels


class DigitsOptions(Options):
    """The first examples of a split, classes in turn, or all."""

    limit: Count | None = Field(None, description="number of examples, a multiple of 10 for balance; none: all")


class FashionMNISTOptions(Options):
    """The first examples of a split, in the order of the files, or all."""

    limit: Count | None = Field(None, description="number of examples; none: all")


class PhotosOptions(Options):
    """How the photographs are cut into crops."""

    size: int = Field(64, ge=16, le=96, description="side of the square crops in pixels")
    stride: Pixels = Field(
        16, ge=4, description="distance between neighbouring crops in pixels; 16 gives 6,389 at size 64"
    )
