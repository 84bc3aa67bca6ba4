"""What the distillation family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_distillation.options import DINOOptions


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
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
