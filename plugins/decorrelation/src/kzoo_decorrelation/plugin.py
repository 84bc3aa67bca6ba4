"""What the decorrelation family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_decorrelation.options import BarlowTwinsOptions, VICRegOptions


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield MethodSpec(
        name="barlow_twins",
        target="kzoo_decorrelation.barlow_twins:BarlowTwins",
        options=BarlowTwinsOptions,
        family="decorrelation",
        summary="Correlate each unit with itself across two views, and with no other",
        paper="Zbontar, Jing, Misra, LeCun, Deny, ICML 2021, arXiv:2103.03230",
        least_examples=2,
        check_options={"projector": (32, 32), "bias_lr_scale": 1.0},
    )
    yield MethodSpec(
        name="vicreg",
        target="kzoo_decorrelation.vicreg:VICReg",
        options=VICRegOptions,
        family="decorrelation",
        summary="Near embeddings of two views, with units that stay varied and uncorrelated",
        paper="Bardes, Ponce, LeCun, ICLR 2022, arXiv:2105.04906",
        least_examples=2,
        check_options={"projector": (32, 32)},
    )
