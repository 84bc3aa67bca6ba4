"""What `dino` is, and what can be set."""

from pydantic import Field

from kzoo.specs import MethodSpec
from kzoo_distillation.specs.multicrop import MultiCropOptions


class DINOOptions(MultiCropOptions):
    centre_momentum: float = Field(0.9, ge=0, le=1, description="of the centre's moving average")


SPEC = MethodSpec(
    name="dino",
    target="kzoo_distillation.dino:DINO",
    options=DINOOptions,
    family="distillation",
    summary="Predict the sharpened, centred output of a moving-average teacher from other, smaller views",
    paper="Caron, Touvron, Misra, Jégou, Mairal, Bojanowski, Joulin, ICCV 2021, arXiv:2104.14294",
    any_size=True,
    check_options={"head": (32, 16), "prototypes": 24, "local_views": 2, "freeze_epochs": 0},
)
