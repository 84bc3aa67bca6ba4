"""SimMIM (Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, "SimMIM: a simple framework for masked image modeling", CVPR
2022).
"""

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, patches
from kzoo.errors import OptionsError
from kzoo.losses import full_precision
from kzoo.method import Batch, Logs, Method
from kzoo_masked.options import SimMIMOptions
from kzoo_masked.parts.encoders import mean_of_tokens
from kzoo_masked.parts.pixels import check_channels, hide, normalised, paint


class SimMIM(Method):
    """The pixels of hidden squares, by one linear layer from what the whole encoder makes of them.

    Image `[B, h, w, C]` -> patches, projected; within random squares of `square` pixels, ceil(ratio n) of the n, one
    learned vector stands for each patch -> backbone, on all of them -> tokens `[B, T, D]` -> Dense: the p * p * C
    pixels of each patch. Downstream is the backbone on whole images, its tokens averaged.

    The loss is the mean absolute error over the pixels of hidden patches, as they are or, by `mean` and `std`, with
    normalised channels.

    Deviations, of the backbone: fixed positions and no layer scale or stochastic depth, where the paper's ViT has a
    relative position bias, layer scale 0.1 and stochastic depth 0.1. A class token, where there is one, takes part and
    is not trained to say anything: with `pool: mean` the ViTs here have none.
    """

    options: SimMIMOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: SimMIMOptions) -> Batch:
        size = options.size or batch["image"].shape[1]
        return {"image": augment.random_resized_crop(batch["image"], seed, size, options.scale, flip=options.flip)}

    def build_heads(self) -> None:
        channels = self.backbone.input_shape[-1]
        check_channels(self.name, self.options, channels)
        self.patches = patches.patches_of(self.backbone, "masked_tokens", method=self.name)
        if self.square % self.patches.size or self.input_size % self.square or self.input_size == self.square:
            raise OptionsError(
                [
                    f"{self.name}: square: {self.square} must be a multiple of the backbone's patches of "
                    f"{self.patches.size} and a divisor of {self.input_size}, the side of images, that leaves several"
                ]
            )
        self.mask_token = patches.MaskToken(self.patches.width)
        self.head = keras.layers.Dense(self.patches.size**2 * channels, name="head")
        self.head.build((None, None, self.backbone.output["tokens"].shape[-1]))
        self.downstream = mean_of_tokens(self.backbone)

    @property
    def square(self) -> int:
        """The side of the squares in pixels."""
        return self.options.square or self.patches.size

    @property
    def encoder(self) -> keras.Model:
        return self.downstream

    def hidden(self, batch: Batch) -> tf.Tensor:
        """Which patches are hidden, bool `[B, T]`: those of ceil(ratio n) of the n squares."""
        rows, columns = self.patches.grid(batch["image"])
        times = self.square // self.patches.size
        squares = augment.patch_mask(batch["seed"], (rows // times, columns // times), self.options.ratio)
        squares = tf.reshape(squares, [-1, rows // times, columns // times])
        return tf.reshape(tf.repeat(tf.repeat(squares, times, axis=1), times, axis=2), [-1, rows * columns])

    def forward(self, batch: Batch, training: bool) -> Batch:
        hidden, vector = self.hidden(batch), self.mask_token.read()
        tokens = patches.encode_masked(self.backbone, batch["image"], hidden, vector, training)["tokens"]
        return {"hidden": hidden, "predicted": self.head(tokens)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """An answer of 0 to a picture of one value v: |v|; to Gaussian pixels sqrt(2 / pi)."""
        predicted = outputs["predicted"]
        wanted = patches.patchify(normalised(batch["image"], self.options), self.patches.size)
        error = tf.reduce_mean(tf.abs(predicted - tf.cast(wanted, predicted.dtype)), axis=-1)
        weights = tf.cast(outputs["hidden"], error.dtype)  # as many of each image, so a mean of means is the mean
        return {"loss": tf.reduce_mean(tf.reduce_sum(weights * error, 1) / tf.reduce_sum(weights, 1))}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray]:
        outputs, images = self.forward(batch, training=False), batch["image"]
        hidden, size = outputs["hidden"], self.patches.size
        predicted = full_precision(outputs["predicted"])
        painted = paint(images, hidden, predicted, size, self.options, by_patch=False)
        return {"image": images.numpy(), "seen": hide(images, hidden, size).numpy(), "rebuilt": painted.numpy()}
