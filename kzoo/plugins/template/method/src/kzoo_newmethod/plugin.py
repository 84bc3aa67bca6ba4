"""What this plugin brings. Light: no TensorFlow here, so that `kzoo list` stays quick."""

from collections.abc import Iterator

import kzoo
from kzoo_newmethod.options import NewMethodOptions


@kzoo.hookimpl
def kzoo_methods() -> Iterator[kzoo.MethodSpec]:
    yield kzoo.MethodSpec(
        name="newmethod",
        target="kzoo_newmethod.newmethod:NewMethod",
        options=NewMethodOptions,
        family="contrastive",
        summary="Contrast two views of each image with all other views of the batch",
        paper="Chen, Kornblith, Norouzi, Hinton, ICML 2020, arXiv:2002.05709",
        least_examples=2,
        check_options={"projector": (32, 16)},
    )
