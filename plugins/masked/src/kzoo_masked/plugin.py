"""What the masked family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_masked.options import IJEPAOptions, MAEOptions, SimMIMOptions


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
    yield MethodSpec(
        name="i_jepa",
        target="kzoo_masked.i_jepa:IJEPA",
        options=IJEPAOptions,
        family="masked",
        summary="From one block of an image, predict what a moving-average encoder says of others",
        paper="Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun, Ballas, CVPR 2023, arXiv:2301.08243",
        requires=("tokens", "token_subset"),
        check_options={"predictor_width": 16, "predictor_depth": 1, "predictor_heads": 2},
    )
