"""What `deep_infomax` is, and what can be set."""

from typing import Literal, Self

from pydantic import Field, model_validator

from kzoo.options import ImageOptions, Width
from kzoo.specs import MethodSpec


class DeepInfoMaxOptions(ImageOptions):
    estimator: Literal["jsd", "dv", "info_nce"] = Field(
        "jsd",
        description="of the mutual information: jsd, Jensen-Shannon; dv, Donsker-Varadhan; info_nce, which gains most "
        "from large batches",
    )
    local: str = Field(
        "map", description="the backbone's feature map whose locations are scored: map, map_1, ...; 8x8 in the paper"
    )
    local_weight: float = Field(1.0, ge=0, description="weight of the local term (beta); 0 leaves it out")
    global_weight: float = Field(0.0, ge=0, description="weight of the global term (alpha); 0 leaves it out")
    prior_weight: float = Field(0.1, ge=0, description="weight of matching the prior (gamma); 0 leaves it out")
    fc_width: Width = Field(1024, description="width of the layer between embedding and code")
    code_width: Width = Field(64, description="width of the code E(x)")
    units: Width = Field(2048, description="width of the space in which scores are dot products")
    flip: float = Field(0.0, ge=0, le=1, description="probability of a horizontal flip")
    crop: float = Field(1.0, gt=0, le=1, description="side of a random square crop, as a share of the image's")

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if not (self.local_weight or self.global_weight):
            raise ValueError("local_weight and global_weight are both 0; one of them must be learnt from")
        return self


SPEC = MethodSpec(
    name="deep_infomax",
    least_examples=2,
    target="kzoo_contrastive.deep_infomax:DeepInfoMax",
    options=DeepInfoMaxOptions,
    family="contrastive",
    requires=("embedding", "map"),
    offers=("fc", "code"),
    summary="Tell an image's own local features from those of other images by its code",
    paper="Hjelm, Fedorov, Lavoie-Marchildon, Grewal, Bachman, Trischler, Bengio, ICLR 2019, arXiv:1808.06670",
    check_options={"fc_width": 32, "code_width": 16, "units": 32, "global_weight": 1.0},
)
