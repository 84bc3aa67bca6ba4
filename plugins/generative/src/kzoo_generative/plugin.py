"""What the generative family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_generative.options import AutoencoderOptions


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield MethodSpec(
        name="autoencoder",
        target="kzoo_generative.autoencoder:Autoencoder",
        options=AutoencoderOptions,
        family="generative",
        summary="Rebuild the image from a narrow code; with noise or masks, a denoising autoencoder",
        paper="Hinton, Salakhutdinov, Science 2006; Vincent et al., ICML 2008",
    )
