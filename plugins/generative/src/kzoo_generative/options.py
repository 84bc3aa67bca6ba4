"""Options of the generative methods and of their backbone. Light: pydantic only."""

from typing import Literal

from pydantic import Field, model_validator

from kzoo.options import Depth, ImageOptions, Options, Pixels, Width


class AutoencoderOptions(ImageOptions):
    bottleneck: Width = Field(64, description="width of the code between encoder and decoder")
    decoder: Literal["conv", "linear"] = Field(
        "conv", description="conv: transposed convolutions and a sigmoid; linear: one Dense layer, no sigmoid"
    )
    decoder_width: Width = Field(32, description="channels of the conv decoder's last hidden layer; doubled inwards")
    noise: float = Field(0.0, ge=0, description="standard deviation of Gaussian noise on the input (denoising)")
    masked: float = Field(0.0, ge=0, lt=1, description="share of the input's pixels set to 0 (denoising)")


class VAEOptions(ImageOptions):
    latent: Width = Field(64, description="width of the code z")
    beta: float = Field(1.0, ge=0, description="weight of the KL divergence; 1 gives the evidence lower bound")
    likelihood: Literal["bernoulli", "gaussian"] = Field(
        "bernoulli", description="p(x|z): bernoulli, cross-entropy of each value; gaussian, of unit variance"
    )
    per: Literal["image", "value"] = Field(
        "image",
        description="the loss is in nats for an image, as published, or for each value of it: the same optimum, and "
        "gradients that do not grow with the image, as SGD needs",
    )
    decoder_width: Width = Field(32, description="channels of the decoder's last hidden layer; doubled inwards")


class GANOptions(ImageOptions):
    latent: Width = Field(100, description="width of the noise z that images are generated from")
    generator_width: Width = Field(
        128, description="channels of the generator's last hidden layer; doubled inwards, 1024 at most"
    )
    grid: Depth = Field(
        4, ge=1, description="downstream, each feature map of the discriminator is max-pooled to so many cells a side"
    )


class DiscriminatorOptions(Options):
    """Options of `dcgan_discriminator`."""

    widths: tuple[Width, ...] = Field(
        (64, 128, 256, 512), min_length=2, description="channels of each convolution; each halves the resolution"
    )
    kernel: Pixels = Field(5, ge=2, description="side of the convolutions; the code of later GANs has 4")


class CropOptions(ImageOptions):
    """How a random square crop is cut; whole images by default."""

    scale: tuple[float, float] = Field(
        (1.0, 1.0), description="area of the random square crop, as a share of the image"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")

    @model_validator(mode="after")
    def _in_order(self) -> "CropOptions":
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"scale: expected 0 < low <= high <= 1. Received: {low}, {high}")
        return self


class ContextEncoderOptions(CropOptions):
    region: Literal["centre", "random"] = Field(
        "centre", description="what is hidden: the central square of half the side, or a region of irregular outline"
    )
    covered: float = Field(0.25, gt=0, lt=1, description="share of the image that a random region hides")
    overlap: Pixels = Field(
        4, description="pixels of the region's rim that are asked for though visible; their error counts tenfold"
    )
    reconstruction: float = Field(
        0.999, gt=0, le=1, description="weight of the reconstruction loss; the rest is the adversary's, 1: no adversary"
    )
    bottleneck: Width = Field(4000, description="width of the code between encoder and decoder")
    decoder_width: Width = Field(64, description="channels of the decoder's last hidden layer; doubled inwards")
    adversary_width: Width = Field(
        64, description="channels of the adversary's first layer; doubled with each, eightfold at most"
    )


class ColorizationOptions(CropOptions):
    stride: Pixels = Field(8, ge=1, description="the colour of every so many-th pixel is asked for, across and down")
    neighbours: int = Field(
        5, ge=1, le=313, description="nearest colours that share a pixel's target; the authors' code takes 10"
    )
    rebalance: float = Field(
        0.5, gt=0, le=1, description="share of the uniform distribution in rebalancing; 1: all colours count alike"
    )
    head: tuple[Width, ...] = Field(
        (4096, 4096), description="channels of the convolutions between the backbone's map and the 313 colours"
    )
    head_kernel: Pixels = Field(6, ge=1, description="side of the first of them in places; the others have 1")
    head_dilation: Pixels = Field(2, ge=1, description="dilation of the first of them")
