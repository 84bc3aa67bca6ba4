"""Options that methods with a memory bank share."""

from pydantic import Field

from kzoo.options import ImageOptions, Width


class BankOptions(ImageOptions):
    """What methods with a memory bank share."""

    temperature: float = Field(0.07, gt=0, description="what similarities are divided by")
    momentum: float = Field(0.5, ge=0, lt=1, description="share of the old entry that a bank's new entry keeps")
    projector: tuple[Width, ...] = Field((128,), min_length=1, description="widths of the projector's Dense layers")
