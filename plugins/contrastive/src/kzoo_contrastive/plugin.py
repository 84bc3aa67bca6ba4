"""What the contrastive family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_contrastive.options import MoCoV1Options, MoCoV2Options, SimCLROptions


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield MethodSpec(
        name="simclr",
        target="kzoo_contrastive.simclr:SimCLR",
        options=SimCLROptions,
        family="contrastive",
        summary="Contrast two augmented views of each image with all other views of the batch",
        paper="Chen, Kornblith, Norouzi, Hinton, ICML 2020, arXiv:2002.05709",
    )
    yield MethodSpec(
        name="moco_v1",
        target="kzoo_contrastive.moco_v1:MoCoV1",
        options=MoCoV1Options,
        family="contrastive",
        summary="Contrast a query with its key and a queue of keys from a momentum encoder",
        paper="He, Fan, Wu, Xie, Girshick, CVPR 2020, arXiv:1911.05722",
    )
    yield MethodSpec(
        name="moco_v2",
        target="kzoo_contrastive.moco_v2:MoCoV2",
        options=MoCoV2Options,
        family="contrastive",
        summary="MoCo with SimCLR's head, blur and a higher temperature",
        paper="Chen, Fan, Girshick, He 2020, arXiv:2003.04297",
    )
