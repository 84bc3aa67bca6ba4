"""What the masked family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_masked.options import MAEOptions, SimMIMOptions


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield MethodSpec(
        name="mae",
        target="kzoo_masked.mae:MAE",
        options=MAEOptions,
        family="masked",
        summary="Predict the pixels of the three quarters of an image that are hidden, from the patches that are not",
        paper="He, Chen, Xie, Li, Dollár, Girshick, CVPR 2022, arXiv:2111.06377",
        requires=("embedding", "tokens", "token_subset"),
        check_options={"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
    )
    yield MethodSpec(
        name="simmim",
        target="kzoo_masked.simmim:SimMIM",
        options=SimMIMOptions,
        family="masked",
        summary="Predict the pixels of hidden squares by one linear layer from tokens of all patches",
        paper="Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, CVPR 2022, arXiv:2111.09886",
        requires=("tokens", "masked_tokens"),
    )
