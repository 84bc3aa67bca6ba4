"""What the clustering family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_clustering.options import SwAVOptions


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield MethodSpec(
        name="swav",
        target="kzoo_clustering.swav:SwAV",
        options=SwAVOptions,
        family="clustering",
        summary="Predict from one view which prototypes another, larger one is assigned to",
        paper="Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, NeurIPS 2020, arXiv:2006.09882",
        any_size=True,
        least_examples=2,
        check_options={
            "projector": (32, 16),
            "prototypes": 12,
            "local_views": 2,
            "freeze_epochs": 0,
            "queue": 32,
            "queue_from_epoch": 1,
        },
    )
