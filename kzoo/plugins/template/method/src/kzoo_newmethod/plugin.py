"""What this plugin brings. Light: no TensorFlow here, so that `kzoo list` stays quick."""

from collections.abc import Iterator

import kzoo
from kzoo_newmethod.options import NewMethodOptions, NewMethodTeacherOptions


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
    yield kzoo.MethodSpec(
        name="newmethod_teacher",
        target="kzoo_newmethod.newmethod_teacher:NewMethodTeacher",
        options=NewMethodTeacherOptions,
        family="contrastive",
        summary="Find what a slow teacher says of the other view, among all that it says of the batch",
        paper="Chen, Xie, He, ICCV 2021, arXiv:2104.02057",
        least_examples=2,
        check_options={"projector": (32, 16)},
    )
