"""What `local_aggregation` is, and what can be set."""

from pydantic import Field

from kzoo.options import Count
from kzoo.specs import MethodSpec
from kzoo_contrastive.specs.bank import BankOptions
from kzoo_contrastive.specs.moco_v1 import MoCoV1View


class LocalAggregationOptions(BankOptions):
    background: Count = Field(4096, description="nearest entries that are an image's background neighbours")
    clusters: Count = Field(30000, ge=2, description="clusters of each k-means clustering")
    clusterings: Count = Field(10, description="clusterings; sharing a cluster in one makes a neighbour close")
    iterations: Count = Field(25, description="most iterations of k-means")
    warmup_epochs: int = Field(10, ge=0, le=100_000, description="first epochs, which are instance discrimination")
    noise: Count = Field(4096, description="entries that each example is told from in the warm-up")
    view: MoCoV1View = Field(default_factory=MoCoV1View, description="how the view is made")


SPEC = MethodSpec(
    name="local_aggregation",
    target="kzoo_contrastive.local_aggregation:LocalAggregation",
    options=LocalAggregationOptions,
    family="contrastive",
    summary="Pull an image to the neighbours that share its cluster, of those nearest to it",
    paper="Zhuang, Zhai, Yamins, ICCV 2019, arXiv:1903.12355",
    check_options={
        "projector": (16,),
        "noise": 32,
        "background": 8,
        "clusters": 4,
        "clusterings": 2,
        "iterations": 3,
        "warmup_epochs": 1,
    },
    check_learning_rate=0.005,
)
