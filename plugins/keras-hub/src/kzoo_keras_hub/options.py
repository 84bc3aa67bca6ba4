"""What the bridged backbones let a recipe choose."""

import os
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from kzoo.options import Depth, Options, Pixels, Width, absolute


def _rooted(preset: str) -> str:
    """A folder from the root; the name of a preset, and what lies elsewhere ("hf://..."), as they are."""
    if "://" in preset:
        return preset
    is_folder = os.sep in preset or preset.startswith(("~", ".")) or os.path.isdir(preset)
    return absolute(preset) if is_folder else preset


class PresetOptions(Options):
    """What all of them share: where weights come from. Without a preset a network starts at random."""

    preset: Annotated[str, AfterValidator(_rooted)] | None = Field(
        None,
        description="weights to start from: a folder that holds a preset, or the name of one that KerasHub downloads; "
        "none: start at random",
    )

    @model_validator(mode="after")
    def _shaped_by_the_preset(self) -> Self:
        if self.preset is not None:
            own = [name for name in type(self).model_fields if name != "preset" and getattr(self, name) is not None]
            if own:
                raise ValueError(f"a preset says the {', '.join(own)} of its network; leave them out, or preset")
        return self


class ResNetOptions(PresetOptions):
    """Options of `keras_hub/resnet`."""

    blocks: tuple[Annotated[int, Field(ge=1, le=100)], ...] | None = Field(
        None,
        min_length=1,
        max_length=6,
        description="blocks of each stage; none: the preset's, or ResNet-50's 3, 4, 6, 3",
    )


class TransformerOptions(PresetOptions):
    """Options of the vision transformers."""

    patch_size: Pixels | None = Field(
        None, ge=1, description="side of a patch in pixels; must divide the image's sides; none: the preset's, or 16"
    )
    depth: Depth | None = Field(None, ge=1, description="number of transformer blocks; none: the preset's, or 12")
    width: Width | None = Field(None, description="width of a token; none: the preset's, or 384")
    heads: Depth | None = Field(
        None, ge=1, description="attention heads; must divide the width; none: the preset's, or 6"
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        width, heads = self.width or 384, self.heads or 6
        if width % heads:
            raise ValueError(f"heads must divide the width; received {heads} heads and a width of {width}")
        return self
