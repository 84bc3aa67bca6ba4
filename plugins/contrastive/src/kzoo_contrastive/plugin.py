"""What the contrastive family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import BackboneSpec, MethodSpec
from kzoo_contrastive.options import (
    AMDIMEncoderOptions,
    AMDIMOptions,
    CMCOptions,
    CPCOptions,
    CPCV2Options,
    DeepInfoMaxEncoderOptions,
    DeepInfoMaxOptions,
    EMPSSLOptions,
    InstDiscOptions,
    LocalAggregationOptions,
    MoCoV1Options,
    MoCoV2Options,
    MoCoV3Options,
    SimCLROptions,
)


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield MethodSpec(
        name="simclr",
        least_examples=2,
        target="kzoo_contrastive.simclr:SimCLR",
        options=SimCLROptions,
        family="contrastive",
        summary="Contrast two augmented views of each image with all other views of the batch",
        paper="Chen, Kornblith, Norouzi, Hinton, ICML 2020, arXiv:2002.05709",
        check_options={"projector": (32, 16)},
    )
    yield MethodSpec(
        name="moco_v1",
        target="kzoo_contrastive.moco_v1:MoCoV1",
        options=MoCoV1Options,
        family="contrastive",
        summary="Contrast a query with its key and a queue of keys from a momentum encoder",
        paper="He, Fan, Wu, Xie, Girshick, CVPR 2020, arXiv:1911.05722",
        check_options={"projector": (16,), "queue": 64, "groups": 4},
    )
    yield MethodSpec(
        name="moco_v2",
        target="kzoo_contrastive.moco_v2:MoCoV2",
        options=MoCoV2Options,
        family="contrastive",
        summary="MoCo with SimCLR's head, blur and a higher temperature",
        paper="Chen, Fan, Girshick, He 2020, arXiv:2003.04297",
        check_options={"projector": (32, 16), "queue": 64, "groups": 4},
    )
    yield MethodSpec(
        name="moco_v3",
        least_examples=2,
        target="kzoo_contrastive.moco_v3:MoCoV3",
        options=MoCoV3Options,
        family="contrastive",
        summary="MoCo without a queue and with a predictor; stable with vision transformers",
        paper="Chen, Xie, He, ICCV 2021, arXiv:2104.02057",
        check_options={"projector": (32, 16), "predictor": (32, 16)},
    )
    yield MethodSpec(
        name="inst_disc",
        target="kzoo_contrastive.inst_disc:InstDisc",
        options=InstDiscOptions,
        family="contrastive",
        summary="Tell every image from all others by its entry in a memory bank",
        paper="Wu, Xiong, Yu, Lin, CVPR 2018, arXiv:1805.01978",
        check_options={"projector": (16,), "noise": 32},
        check_learning_rate=0.005,
    )
    yield MethodSpec(
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
    yield MethodSpec(
        name="cmc",
        target="kzoo_contrastive.cmc:CMC",
        options=CMCOptions,
        family="contrastive",
        channels=(3,),
        summary="Contrast views of an image, as its lightness and its colours, each with an encoder and a memory bank",
        paper="Tian, Krishnan, Isola, ECCV 2020, arXiv:1906.05849",
        check_options={"projector": (16,), "noise": 32},
    )
    yield MethodSpec(
        name="emp_ssl",
        least_examples=2,
        target="kzoo_contrastive.emp_ssl:EMPSSL",
        options=EMPSSLOptions,
        family="contrastive",
        summary="Give the many patches of an image one code, and spread the codes of a batch",
        paper="Tong, Chen, Ma, LeCun 2023, arXiv:2304.03977",
        any_size=True,
        check_options={"patches": 4, "projector": (32, 32, 16), "bag": 4},
    )
    yield MethodSpec(
        name="cpc",
        target="kzoo_contrastive.cpc:CPC",
        options=CPCOptions,
        family="contrastive",
        any_size=True,
        summary="Predict the patches further down from the rows of patches above",
        paper="van den Oord, Li, Vinyals 2018, arXiv:1807.03748",
        check_options={"grid": 4, "steps": 2, "context_layers": 1, "context_width": 16, "batch_norm": True},
    )
    yield MethodSpec(
        name="cpc_v2",
        target="kzoo_contrastive.cpc_v2:CPCV2",
        options=CPCV2Options,
        family="contrastive",
        any_size=True,
        summary="CPC in four directions, with each patch augmented and normalised by itself",
        paper="Hénaff, Srinivas, De Fauw, Razavi, Doersch, Eslami, van den Oord, ICML 2020, arXiv:1905.09272",
        check_options={
            "grid": 4,
            "steps": 2,
            "skip": 1,
            "context_layers": 1,
            "context_width": 16,
            "target_width": 16,
            "scale": 1.0,
            "batch_norm": True,
        },
    )
    yield MethodSpec(
        name="deep_infomax",
        least_examples=2,
        target="kzoo_contrastive.deep_infomax:DeepInfoMax",
        options=DeepInfoMaxOptions,
        family="contrastive",
        requires=("embedding", "map"),
        offers=("fc", "code"),
        summary="Tell an image's own local features from those of other images by its code",
        paper="Hjelm, Fedorov, Lavoie-Marchildon, Grewal, Bachman, Trischler, Bengio, ICLR 2019, arXiv:1808.06670",
        check_options={"fc_width": 32, "code_width": 16, "units": 32, "global_weight": 1.0},
    )
    yield MethodSpec(
        name="amdim",
        least_examples=2,
        target="kzoo_contrastive.amdim:AMDIM",
        options=AMDIMOptions,
        family="contrastive",
        requires=("embedding", "map", "map_1"),
        summary="Find the local features of one view by those of another, at several scales",
        paper="Bachman, Hjelm, Buchwalter, NeurIPS 2019, arXiv:1906.00910",
        check_options={"crop": "shift"},
        check_backbone="amdim_encoder",
        check_learning_rate=0.0001,
    )


@hookimpl
def kzoo_backbones() -> Iterator[BackboneSpec]:
    yield BackboneSpec(
        name="amdim_encoder",
        target="kzoo_contrastive.amdim_encoder:amdim_encoder",
        options=AMDIMEncoderOptions,
        family="amdim",
        summary="AMDIM's residual network without padding, for 32, 64 or 128 px; maps of 7 and 5, 1024-wide embedding",
        paper="Bachman, Hjelm, Buchwalter, NeurIPS 2019, arXiv:1906.00910",
        offers=("embedding", "map", "map_1"),
        min_size=32,
        check_options={"width": 4, "rkhs": 32, "depth": 1, "zero_init_residual": False},
    )
    yield BackboneSpec(
        name="deep_infomax_encoder",
        target="kzoo_contrastive.deep_infomax_encoder:deep_infomax_encoder",
        options=DeepInfoMaxEncoderOptions,
        family="convnet",
        summary="DCGAN's discriminator, strided 4x4 convolutions; the embedding is its whole last map, 4096 at 32 px",
        paper="Hjelm et al., ICLR 2019, arXiv:1808.06670",
        offers=("embedding", "map", "map_1", "map_2"),
        min_size=24,
        check_options={"width": 4},
    )
