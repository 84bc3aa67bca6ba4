"""What the generative family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import BackboneSpec, MethodSpec
from kzoo_generative.options import (
    AutoencoderOptions,
    ColorizationOptions,
    ContextEncoderOptions,
    DiscriminatorOptions,
    GANOptions,
    VAEOptions,
)


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield MethodSpec(
        name="autoencoder",
        target="kzoo_generative.autoencoder:Autoencoder",
        options=AutoencoderOptions,
        family="generative",
        summary="Rebuild the image from a narrow code; with noise or masks, a denoising autoencoder",
        paper="Hinton, Salakhutdinov, Science 2006; Vincent et al., ICML 2008",
        check_options={"bottleneck": 16, "decoder_width": 4},
    )
    yield MethodSpec(
        name="vae",
        target="kzoo_generative.vae:VAE",
        options=VAEOptions,
        family="generative",
        summary="Rebuild the image from a random code that must stay close to a normal distribution",
        paper="Kingma, Welling, ICLR 2014, arXiv:1312.6114",
        check_options={"latent": 16, "decoder_width": 4, "per": "value"},
    )
    yield MethodSpec(
        name="gan",
        target="kzoo_generative.gan:GAN",
        options=GANOptions,
        family="generative",
        summary="Tell real images from those of a generator that learns to fool (DCGAN)",
        paper="Radford, Metz, Chintala, ICLR 2016, arXiv:1511.06434; Goodfellow et al., NeurIPS 2014",
        check_options={"latent": 8, "generator_width": 4},
    )
    yield MethodSpec(
        name="context_encoder",
        least_examples=2,
        target="kzoo_generative.context_encoder:ContextEncoder",
        options=ContextEncoderOptions,
        family="generative",
        summary="Paint what a hole in the image hides, from what surrounds it",
        paper="Pathak, Krahenbuhl, Donahue, Darrell, Efros, CVPR 2016, arXiv:1604.07379",
        check_options={"overlap": 1, "bottleneck": 16, "decoder_width": 4, "adversary_width": 4},
    )
    yield MethodSpec(
        name="colorization",
        target="kzoo_generative.colorization:Colorization",
        options=ColorizationOptions,
        family="generative",
        summary="Tell the colours of a photograph from its lightness",
        paper="Zhang, Isola, Efros, ECCV 2016, arXiv:1603.08511",
        requires=("embedding", "map"),
        channels=(3,),
        check_options={"stride": 4, "head": (16,), "head_kernel": 1},
    )


@hookimpl
def kzoo_backbones() -> Iterator[BackboneSpec]:
    yield BackboneSpec(
        name="dcgan_discriminator",
        target="kzoo_generative.discriminator:dcgan_discriminator",
        options=DiscriminatorOptions,
        family="convnet",
        summary="DCGAN's discriminator: four convolutions of stride 2, 512-wide embedding, 4.3 M parameters",
        paper="Radford, Metz, Chintala, ICLR 2016, arXiv:1511.06434",
        offers=("embedding", "map", "map_1"),
        any_size=True,
        check_options={"widths": (8, 16, 16)},
    )
