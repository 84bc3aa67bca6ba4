"""Options of the generative methods. Light: pydantic only."""

from typing import Literal

from pydantic import Field

from kzoo.options import ImageOptions


class AutoencoderOptions(ImageOptions):
    bottleneck: int = Field(64, ge=1, description="width of the code between encoder and decoder")
    decoder: Literal["conv", "linear"] = Field(
        "conv", description="conv: transposed convolutions and a sigmoid; linear: one Dense layer, no sigmoid"
    )
    decoder_width: int = Field(
        32, ge=1, description="channels of the conv decoder's last hidden layer; doubled inwards"
    )
    noise: float = Field(0.0, ge=0, description="standard deviation of Gaussian noise on the input (denoising)")
    masked: float = Field(0.0, ge=0, lt=1, description="share of the input's pixels set to 0 (denoising)")
