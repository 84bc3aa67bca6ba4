"""What `sere` is, and what can be set."""

from pydantic import Field

from kzoo.options import Count
from kzoo.specs import MethodSpec
from kzoo_distillation.specs.ibot import IBOTOptions


class SEREOptions(IBOTOptions):
    points: int = Field(13, ge=2, le=64, description="points of a side of the grid in what two large views share")
    relation_heads: Count = Field(6, description="groups of features, in each of which points are related")
    spatial_weight: float = Field(0.2, ge=0, le=2, description="weight of the relations of points")
    channel_weight: float = Field(0.5, ge=0, le=2, description="weight of the relations of features")
    spatial_temperature: float = Field(0.5, gt=0, description="of the teacher's relations of points")
    channel_temperature: float = Field(0.1, gt=0, description="of the teacher's relations of features")


SPEC = MethodSpec(
    name="sere",
    target="kzoo_distillation.sere:SERE",
    options=SEREOptions,
    family="distillation",
    summary="iBOT, and how an image's patches and features relate to each other in another view",
    paper="Li, Gao, Cheng, TPAMI 2023, arXiv:2206.05184",
    requires=("embedding", "tokens", "masked_tokens"),
    any_size=True,
    check_options={
        "head": (32, 16),
        "prototypes": 24,
        "local_views": 2,
        "local_size": 16,
        "freeze_epochs": 0,
        "points": 5,
        "relation_heads": 2,
    },
)
