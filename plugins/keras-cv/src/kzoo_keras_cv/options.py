"""What the bridged backbones let a recipe choose."""

from pydantic import Field

from kzoo.options import Options


class KerasCVOptions(Options):
    depth: float = Field(
        1.0, gt=0, le=1, description="share of each stage's blocks, rounded up; 1: the published network"
    )
