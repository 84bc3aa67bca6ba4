"""What `amdim_encoder` is, and what can be set."""

from pydantic import Field

from kzoo.options import Depth, ImageBackboneOptions, Width
from kzoo.specs import BackboneSpec


class AMDIMEncoderOptions(ImageBackboneOptions):
    """Options of `amdim_encoder`; the paper's largest has width 192, rkhs 1536 and depth 8."""

    width: Width = Field(128, description="channels of the first layer (ndf)")
    rkhs: Width = Field(1024, description="width of the embedding (n_rkhs)")
    depth: Depth = Field(3, ge=1, description="residual units in each block")
    batch_norm: bool = Field(
        False, description="normalise inside too; the embedding is normalised over the batch in any case"
    )
    zero_init_residual: bool = Field(
        True, description="start each residual branch at zero (its last kernel), so that a unit is its shortcut"
    )


SPEC = BackboneSpec(
    name="amdim_encoder",
    target="kzoo_contrastive.encoders.amdim_encoder:amdim_encoder",
    options=AMDIMEncoderOptions,
    family="amdim",
    summary="AMDIM's residual network without padding, for 32, 64 or 128 px; maps of 7 and 5, 1024-wide embedding",
    paper="Bachman, Hjelm, Buchwalter, NeurIPS 2019, arXiv:1906.00910",
    offers=("embedding", "map", "map_1"),
    min_size=32,
    check_options={"width": 4, "rkhs": 32, "depth": 1, "zero_init_residual": False},
)
