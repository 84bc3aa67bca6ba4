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
