import kzoo
from kzoo_ressl.options import BurrowOptions, ReSSLOptions


@kzoo.hookimpl
def kzoo_methods():
    yield kzoo.MethodSpec(
        name="ressl",
        target="kzoo_ressl.ressl:ReSSL",
        options=ReSSLOptions,
        family="distillation",
        summary="Relate two views of an image to remembered ones alike",
        paper="Zheng et al., NeurIPS 2021, arXiv:2107.09282",
        check_options={"queue": 64, "projector": (32, 16)},
    )


@kzoo.hookimpl
def kzoo_backbones():
    yield kzoo.BackboneSpec(
        name="burrow",
        target="kzoo_ressl.burrow:burrow",
        options=BurrowOptions,
        family="convnet",
        summary="two strided convolutions",
        offers=("embedding", "map", "map_1"),
        any_size=True,
    )


@kzoo.hookimpl
def kzoo_datasets():
    yield kzoo.DatasetSpec(
        name="pen_digits",
        target="kzoo_ressl.pen_digits:pen_digits",
        options=kzoo.Options,
        summary="1,797 handwritten digits, 8x8 grey",
        classes=10,
        image_shape=(8, 8, 1),
        source="scikit-learn",
    )


@kzoo.hookimpl
def kzoo_callbacks(run_dir):
    from kzoo_ressl.diary import Diary

    yield Diary(run_dir / "diary.json")
