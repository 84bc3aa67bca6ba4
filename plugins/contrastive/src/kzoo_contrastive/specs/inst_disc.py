"""What `inst_disc` is, and what can be set."""

from pydantic import Field

from kzoo.options import Count
from kzoo.specs import MethodSpec
from kzoo_contrastive.specs.bank import BankOptions
from kzoo_contrastive.specs.moco_v1 import MoCoV1View


class InstDiscOptions(BankOptions):
    noise: Count | None = Field(
        4096, description="entries that each example is told from; none: the softmax over all examples"
    )
    proximal: float = Field(
        0.0, ge=0, description="weight of the squared distance to the old entry; 30 in the paper, with momentum 0"
    )
    view: MoCoV1View = Field(default_factory=MoCoV1View, description="how the view is made")


SPEC = MethodSpec(
    name="inst_disc",
    target="kzoo_contrastive.inst_disc:InstDisc",
    options=InstDiscOptions,
    family="contrastive",
    summary="Tell every image from all others by its entry in a memory bank",
    paper="Wu, Xiong, Yu, Lin, CVPR 2018, arXiv:1805.01978",
    check_options={"projector": (16,), "noise": 32},
    check_learning_rate=0.005,
)
