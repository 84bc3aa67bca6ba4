"""Options: the typed, documented settings of a method, a backbone or a dataset.

This module is imported by listing commands: pydantic only, never TensorFlow.
"""

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

try:
    TypeAdapter(int)  # pydantic's first schema reads the entry points of every installed package
except Exception:  # a list that cannot be read, of any package, would stop all options; kzoo needs no pydantic plugin
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

_LARGEST = 2**31 - 1  # what TensorFlow's int32 holds

# What plugins' options count and measure. Each has a largest value far above what anyone has trained, so that a slip is
# told when the recipe is read, not by a machine that runs out of memory. A field may narrow it: `Field(ge=2)`.
Side = Annotated[int, Field(ge=8, le=4096)]  # of an image, in pixels
Pixels = Annotated[int, Field(ge=0, le=4096)]  # a distance, the side of a patch or of a kernel
Width = Annotated[int, Field(ge=1, le=65_536)]  # of a layer: units or channels
Depth = Annotated[int, Field(ge=0, le=1000)]  # layers, blocks, rows of a grid
Count = Annotated[int, Field(ge=1, le=2**24)]  # examples, negatives, clusters, tokens


def absolute(path: str) -> str:
    """The path from the root, seen from the folder where the command was typed; "gs://..." and the like as they are."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


FilePath = Annotated[str, AfterValidator(absolute)]  # of a file or folder on this machine


class Options(BaseModel):
    """Base of every plugin's options: frozen, unknown keys refused, defaults checked as well.

    Numbers are finite, and whole ones are held by int32. Sizes have types of their own, `Width` and those beside it;
    a path is `FilePath`, so that a run means the same wherever the next command is typed.
    Give every field a `Field(default, description=...)`: `kzoo show` prints it and the conformance suite asks for it.
    Where a default is itself Options, write `Field(default_factory=ItsOptions, ...)`: then pydantic builds a schema
    only when it is used, which keeps `kzoo list` fast however many methods are installed.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        protected_namespaces=(),
        defer_build=True,
        allow_inf_nan=False,
    )

    @field_validator("*")
    @classmethod
    def _held_by_int32(cls, value: Any) -> Any:
        refuse_huge(value)
        return value


def refuse_huge(value: Any) -> None:
    """Raise ValueError for a whole number, also in a list, that int32 does not hold."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError(f"numbers reach from {-_LARGEST:,} to {_LARGEST:,}; received {value:.3g}")
    for item in value if isinstance(value, list | tuple) else ():
        refuse_huge(item)


HIDDEN = "~"  # begins what pydantic adds to the place of a fault, and what no recipe says


def place(fault: Any) -> tuple[str | int, ...]:
    """Where a fault is (an item of `ValidationError.errors()`), as a recipe says it."""
    return tuple(part for part in fault["loc"] if not str(part).startswith(HIDDEN))


class ImageOptions(Options):
    """Options that every method on images shares."""

    size: Side | None = Field(None, description="side of the views in pixels; none: the size of the dataset's images")

    def image_channels(self) -> tuple[int, ...] | None:
        """Numbers of image channels that can be learnt from under these options; none: those of the method's record."""
        return None


class ImageBackboneOptions(Options):
    """Options of backbones of images: normalisation of the input, inside the network (`kzoo.layers.image_input`)."""

    mean: tuple[float, ...] | None = Field(
        None, description="mean of each channel, in [0, 1], taken from the input; none: the input stays as it is"
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="standard deviation of each channel, in [0, 1], that the input is divided by"
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> "ImageBackboneOptions":
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together; give both or neither")
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std {len(self.std)}; give one value per channel")
        return self


class TFDSOptions(Options):
    """Options of every dataset named `tfds:<builder>`."""

    data_dir: FilePath | None = Field(
        None, description="folder that holds the prepared dataset; none: the default of tensorflow-datasets"
    )
    image_key: str = Field("image", description="feature that holds the image")
    label_key: str | None = Field("label", description="feature that holds the class; none: no labels are read")
    size: Side | None = Field(
        None, description="side in pixels that all images are resized to; none: they share one size already"
    )


Layout = Annotated[
    Literal["auto", "splits", "classes", "flat"],
    Field(
        description="what the first sub-folders are: splits (with classes in them), classes, or nothing (flat: no "
        "labels); auto: their names tell, and what can be read in two ways is an error"
    ),
]


class FolderOptions(Options):
    """Options of every dataset named `folder:<path>`."""

    size: Side | None = Field(
        None, description="side in pixels that all images are resized to; none: they share one size already"
    )
    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of each class held out as split test, chosen by a hash of the relative paths; "
        "unused where the folder has its own splits",
    )
    layout: Layout = "auto"
    skip_broken: bool = Field(
        False, description="leave out, and name, the files that cannot be read; false: they are an error"
    )


class ViewOptions(Options):
    """How one augmented view is made; `kzoo.augment.view` takes these. A method sets its paper's values as defaults."""

    scale: tuple[float, float] = Field((0.08, 1.0), description="area of the random crop, as a share of the image")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.4, 0.1), description="strengths of brightness, contrast, saturation and hue jitter"
    )
    jitter_p: float = Field(0.8, ge=0, le=1, description="probability of colour jitter")
    greyscale_p: float = Field(0.2, ge=0, le=1, description="probability of greyscale")
    blur_p: float = Field(0.5, ge=0, le=1, description="probability of Gaussian blur with sigma 0.1 to 2 pixels")
    blur_kernel: Literal["share", "full"] = Field(
        "share",
        description="where the blur is cut off: share, at a tenth of the side (SimCLR), which weakens it in images "
        "below 120 pixels; full, nowhere, as Pillow's filter",
    )
    solarize_p: float = Field(0.0, ge=0, le=1, description="probability of inverting all values above one half")

    @model_validator(mode="after")
    def _in_order(self) -> "ViewOptions":
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"scale: expected 0 < low <= high <= 1. Received: {low}, {high}")
        if min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise ValueError(
                f"jitter: expected strengths of at least 0, and hue of at most 0.5. Received: {self.jitter}"
            )
        return self
