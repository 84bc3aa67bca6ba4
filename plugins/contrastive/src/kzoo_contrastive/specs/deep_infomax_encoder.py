"""What `deep_infomax_encoder` is, and what can be set."""

from pydantic import Field

from kzoo.options import ImageBackboneOptions, Width
from kzoo.specs import BackboneSpec


class DeepInfoMaxEncoderOptions(ImageBackboneOptions):
    """Options of `deep_infomax_encoder`."""

    width: Width = Field(64, description="channels of the first layer; each later one has twice as many")


SPEC = BackboneSpec(
    name="deep_infomax_encoder",
    target="kzoo_contrastive.encoders.deep_infomax_encoder:deep_infomax_encoder",
    options=DeepInfoMaxEncoderOptions,
    family="convnet",
    summary="DCGAN's discriminator, strided 4x4 convolutions; the embedding is its whole last map, 4096 at 32 px",
    paper="Hjelm et al., ICLR 2019, arXiv:1808.06670",
    offers=("embedding", "map", "map_1", "map_2"),
    min_size=24,
    check_options={"width": 4},
)
