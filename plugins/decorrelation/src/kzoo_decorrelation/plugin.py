"""What the decorrelation family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_decorrelation.options import BarlowTwinsOptions, LeJEPAOptions, VICRegOptions


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
    yield MethodSpec(
        name="lejepa",
        target="kzoo_decorrelation.lejepa:LeJEPA",
        options=LeJEPAOptions,
        family="decorrelation",
        summary="Predict the mean of the large views, with embeddings that are Gaussian along random directions",
        paper="Balestriero, LeCun, 2025, arXiv:2511.08544",
        any_size=True,
        least_examples=2,
        check_options={"projector": (32, 16), "local_views": 2, "directions": 16},
        expected_failures={"mean": "its statistic is multiplied by the number of examples, as published"},
    )
