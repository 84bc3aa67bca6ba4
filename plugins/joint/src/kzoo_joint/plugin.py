"""What the joint family brings."""

from collections.abc import Iterator
from functools import partial

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_joint.options import (
    RDropOptions,
    RDropTextOptions,
    S4LExemplarOptions,
    S4LRotationOptions,
    SLAOptions,
    SLASDOptions,
    SupervisedOptions,
)

_spec = partial(MethodSpec, family="joint", labels=True)


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield _spec(
        name="supervised",
        target="kzoo_joint.supervised:Supervised",
        options=SupervisedOptions,
        summary="Name the class of labelled images, and nothing else: the baseline",
        paper="the baseline of Zhai, Oliver, Kolesnikov, Beyer, ICCV 2019, arXiv:1905.03670",
    )
    yield _spec(
        name="supervised_rotation",
        target="kzoo_joint.supervised:SupervisedRotation",
        options=SupervisedOptions,
        summary="Name the class of labelled images in all four turns: rotation as augmentation",
        paper="the baseline DA of Lee, Hwang, Shin, ICML 2020, arXiv:1910.05872",
    )
    yield _spec(
        name="s4l_rotation",
        target="kzoo_joint.s4l_rotation:S4LRotation",
        options=S4LRotationOptions,
        summary="Name the turn of all images, and the class of those that have a label",
        paper="Zhai, Oliver, Kolesnikov, Beyer, ICCV 2019, arXiv:1905.03670",
    )
    yield _spec(
        name="s4l_exemplar",
        target="kzoo_joint.s4l_exemplar:S4LExemplar",
        options=S4LExemplarOptions,
        summary="Tell views of all images from those of others, and name the class of those that have a label",
        paper="Zhai, Oliver, Kolesnikov, Beyer, ICCV 2019, arXiv:1905.03670",
        check_options={"views": 2, "width": 16},
        least_examples=2,
    )
    yield _spec(
        name="sla",
        target="kzoo_joint.sla:SLA",
        options=SLAOptions,
        summary="Name class and version of an image by one softmax, and sum up its versions",
        paper="Lee, Hwang, Shin, ICML 2020, arXiv:1910.05872",
    )
    yield _spec(
        name="sla_sd",
        target="kzoo_joint.sla_sd:SLASD",
        options=SLASDOptions,
        summary="SLA, with a head that learns to say by one look what all versions say together",
        paper="Lee, Hwang, Shin, ICML 2020, arXiv:1910.05872",
    )
    yield _spec(
        name="r_drop",
        target="kzoo_joint.r_drop:RDrop",
        options=RDropOptions,
        summary="Name the class twice under different dropout, and let both answers agree",
        paper="Liang, Wu, Li, Wang, Meng, Qin, Chen, Zhang, Liu, NeurIPS 2021, arXiv:2106.14448",
    )
    yield _spec(
        name="r_drop_text",
        target="kzoo_joint.r_drop:RDropText",
        options=RDropTextOptions,
        summary="Name the class of a passage twice under different dropout, and let both answers agree",
        paper="Liang, Wu, Li, Wang, Meng, Qin, Chen, Zhang, Liu, NeurIPS 2021, arXiv:2106.14448",
        modality="text",
    )
