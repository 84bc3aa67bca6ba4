"""MoCo v2 (Chen, Fan, Girshick, He, "Improved baselines with momentum contrastive learning", 2020)."""

from kzoo_contrastive.moco_v1 import MoCoV1
from kzoo_contrastive.specs.moco_v2 import MoCoV2Options


class MoCoV2(MoCoV1):
    """MoCo v1 with a two-layer head (Dense 2048, ReLU, Dense 128; no batch normalisation), temperature 0.2 and blur.

    The paper changes nothing in the step; all changes are defaults of `MoCoV2Options`. It trains with a cosine
    schedule, which is the recipe's to say.
    """

    options: MoCoV2Options
