"""CPC v2 (Hénaff, Srinivas, De Fauw, Razavi, Doersch, Eslami, van den Oord, "Data-efficient image recognition with
contrastive predictive coding", ICML 2020).
"""

import tensorflow as tf

from kzoo.method import Batch
from kzoo_contrastive.cpc import CPC, Predictor, crop_to_mosaic, patch_keys
from kzoo_contrastive.parts import patches
from kzoo_contrastive.parts.patch_augment import augment_patches
from kzoo_contrastive.specs.cpc_v2 import CPCV2Options


class CPCV2(CPC):
    """CPC with layer normalisation, prediction in four directions, and augmentation of each patch by itself.

    Image -> random crop (260 of 300 px in the paper) -> 6 x 6 patches (80 px in steps of 36) -> each augmented by
    itself -> backbone -> z `[B, G, G, D]`. Down, up, right and left each have their own context network, targets
    (a linear map of z to 64 channels) and W_k, whose predictions are scaled by 0.1. The loss is InfoNCE among all
    patches of the batch, the mean over directions, distances and positions, where the paper's pseudocode sums over
    distances. Only distance 3 is predicted, as in that pseudocode: there patches cease to overlap. With patches that
    overlap by half, set `skip: 1`.

    The backbone must normalise each patch by itself: `backbone.options.norm: layer`. Downstream: as CPC.
    """

    options: CPCV2Options
    directions = ("down", "up", "right", "left")

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: CPCV2Options) -> Batch:
        cells = patches.split(crop_to_mosaic(batch["image"], seed, options), options.grid)
        changed = augment_patches(cells, patch_keys(seed, options.grid), options.augment)
        return {"patches": patches.join(changed, options.grid)}

    def predictor(self, direction: str) -> Predictor:
        options = self.options
        return Predictor(
            range(options.skip + 1, options.steps + 1),
            options.context_layers,
            options.context_width,
            target_width=options.target_width,
            scale=options.scale,
            name=direction,
        )
