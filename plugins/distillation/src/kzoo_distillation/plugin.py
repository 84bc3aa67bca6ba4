"""What the distillation family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_distillation.options import (
    BYOLOptions,
    Data2VecOptions,
    DINOOptions,
    DINOv2Options,
    IBOTOptions,
    SEREOptions,
    SimSiamOptions,
)


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield MethodSpec(
        name="byol",
        target="kzoo_distillation.byol:BYOL",
        options=BYOLOptions,
        family="distillation",
        summary="Predict from one view what a moving average of the network makes of the other",
        paper="Grill, Strub, Altché, Tallec, Richemond et al., NeurIPS 2020, arXiv:2006.07733",
        least_examples=2,
        check_options={"projector": (32, 16), "predictor": (32, 16)},
    )
    yield MethodSpec(
        name="simsiam",
        target="kzoo_distillation.simsiam:SimSiam",
        options=SimSiamOptions,
        family="distillation",
        summary="Predict from one view what the same network makes of the other, held still",
        paper="Chen, He, CVPR 2021, arXiv:2011.10566",
        least_examples=2,
        check_options={"projector": (32, 32), "bottleneck": 16},
    )
    yield MethodSpec(
        name="dino",
        target="kzoo_distillation.dino:DINO",
        options=DINOOptions,
        family="distillation",
        summary="Predict the sharpened, centred output of a moving-average teacher from other, smaller views",
        paper="Caron, Touvron, Misra, Jégou, Mairal, Bojanowski, Joulin, ICCV 2021, arXiv:2104.14294",
        any_size=True,
        check_options={"head": (32, 16), "prototypes": 24, "local_views": 2, "freeze_epochs": 0},
    )
    yield MethodSpec(
        name="ibot",
        target="kzoo_distillation.ibot:IBOT",
        options=IBOTOptions,
        family="distillation",
        summary="DINO, and what the teacher says of the patches that are hidden from the student",
        paper="Zhou, Wei, Wang, Shen, Xie, Yuille, Kong, ICLR 2022, arXiv:2111.07832",
        requires=("embedding", "tokens", "masked_tokens"),
        any_size=True,
        check_options={"head": (32, 16), "prototypes": 24, "local_views": 2, "local_size": 16, "freeze_epochs": 0},
    )
    yield MethodSpec(
        name="dinov2",
        target="kzoo_distillation.dinov2:DINOv2",
        options=DINOv2Options,
        family="distillation",
        summary="DINO and iBOT with heads of their own, balanced targets, and class tokens that keep apart",
        paper="Oquab, Darcet, Moutakanni, Vo, Szafraniec et al., TMLR 2024, arXiv:2304.07193",
        requires=("embedding", "tokens", "masked_tokens"),
        any_size=True,
        least_examples=2,
        check_options={
            "head": (32, 16),
            "patch_head": (32, 16),
            "prototypes": 24,
            "local_views": 2,
            "local_size": 16,
            "freeze_epochs": 0,
            "patch_lr_scale": 1.0,
        },
    )
    yield MethodSpec(
        name="data2vec",
        target="kzoo_distillation.data2vec:Data2Vec",
        options=Data2VecOptions,
        family="distillation",
        summary="Predict, for hidden patches, the mean of the upper blocks of a moving average that sees them",
        paper="Baevski, Hsu, Xu, Babu, Gu, Auli, ICML 2022, arXiv:2202.03555",
        requires=("tokens", "masked_tokens"),
        check_options={"blocks": 2, "momentum": 0.99},
    )
    yield MethodSpec(
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
