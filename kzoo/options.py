"""Options: the typed, documented settings of a method, a backbone or a dataset.

This module is imported by listing commands: pydantic only, never TensorFlow.
"""

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """Base of every plugin's options: frozen, unknown keys refused, defaults checked as well.

    Give every field a `Field(default, description=...)`: `kzoo show` prints it and the conformance suite asks for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, protected_namespaces=())


class ImageOptions(Options):
    """Options that every method on images shares."""

    size: int | None = Field(
        None, ge=8, description="side of the views in pixels; none: the size of the dataset's images"
    )


class TFDSOptions(Options):
    """Options of every dataset named `tfds:<builder>`."""

    data_dir: str | None = Field(
        None, description="folder that holds the prepared dataset; none: the default of tensorflow-datasets"
    )
    image_key: str = Field("image", description="feature that holds the image")
    label_key: str | None = Field("label", description="feature that holds the class; none: no labels are read")
    size: int | None = Field(
        None, ge=8, description="side in pixels that all images are resized to; none: they share one size already"
    )


class FolderOptions(Options):
    """Options of every dataset named `folder:<path>`."""

    size: int | None = Field(
        None, ge=8, description="side in pixels that all images are resized to; none: they share one size already"
    )
    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the files held out as split test, chosen by a hash of the relative path; "
        "unused where the folder has its own train and test sub-folders",
    )
    skip_broken: bool = Field(
        False, description="leave out, and name, the files that cannot be decoded; false: the first one is an error"
    )
