"""MAE (He, Chen, Xie, Li, Dollár, Girshick, "Masked autoencoders are scalable vision learners", CVPR 2022)."""

import numpy as np
import tensorflow as tf

from kzoo import augment, patches
from kzoo.errors import OptionsError
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in, permutation
from kzoo_masked.options import MAEOptions
from kzoo_masked.parts.pixels import check_channels, hide, normalised, paint, standardised
from kzoo_masked.parts.predictor import Predictor


class MAE(Method):
    """From a quarter of an image's patches, the pixels of the others.

    Image `[B, h, w, C]`, of its T patches int(T (1 - ratio)) kept, others for each image -> backbone, which computes
    on these alone -> their tokens `[B, k, D]` -> decoder, a narrow transformer that takes one learned vector for each
    hidden patch, and codes of all places -> the p * p * C pixels of each hidden patch. The backbone's embedding, of a
    ViT the class token, goes into the decoder as well. Downstream is the backbone, on all patches.

    The loss is the mean squared error over the hidden patches only. By default each patch is first brought to mean 0
    and (unbiased) variance 1, which makes better features; an answer of 0 then costs 1 - 1 / (p * p * C), and less
    where patches are of one colour: "variance" is what it costs.

    Deviations: crops are resized bilinearly, not bicubically; the decoder answers for hidden patches only, where the
    code computes the others too and leaves them out of the loss.
    """

    options: MAEOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: MAEOptions) -> Batch:
        size = options.size or batch["image"].shape[1]
        return {"image": augment.random_resized_crop(batch["image"], seed, size, options.scale, flip=options.flip)}

    def build_heads(self) -> None:
        options = self.options
        channels = self.backbone.input_shape[-1]
        check_channels(self.name, options, channels)
        self.patches = patches.patches_of(self.backbone, "token_subset", method=self.name)
        values = self.patches.size**2 * channels
        sizes = options.decoder_width, options.decoder_depth, options.decoder_heads
        self.decoder = Predictor(self.width, *sizes, values, name="decoder")

    def split(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """The numbers of the kept patches and of the hidden ones, int32 `[B, k]` and `[B, T - k]`."""
        rows, columns = self.patches.grid(batch["image"])
        if rows * columns < 2:
            raise OptionsError(
                [f"{self.name}: images are one patch of {self.patches.size} pixels: nothing can be hidden"]
            )
        order = permutation(fold_in(batch["seed"], "mask"), rows * columns)
        kept = max(1, int(rows * columns * (1 - self.options.ratio)))
        return order[:, :kept], order[:, kept:]

    def forward(self, batch: Batch, training: bool) -> Batch:
        kept, hidden = self.split(batch)
        seen = patches.encode_kept(self.backbone, batch["image"], kept, training)
        answers = self.decoder(
            seen["tokens"], kept, hidden, grid=self.patches.grid(batch["image"]), whole=seen["embedding"]
        )
        return {"hidden": hidden, "predicted": answers}

    def target(self, images: tf.Tensor) -> tf.Tensor:
        """What is to be predicted of each patch, `[B, T, p * p * C]`."""
        values = patches.patchify(normalised(images, self.options), self.patches.size)
        return standardised(values) if self.options.normalise_patches else values

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        predicted, hidden = outputs["predicted"], outputs["hidden"]
        wanted = tf.gather(tf.cast(self.target(batch["image"]), predicted.dtype), hidden, batch_dims=1)
        return {
            "loss": tf.reduce_mean(tf.square(predicted - wanted)),
            "variance": tf.reduce_mean(tf.math.reduce_variance(wanted, axis=-1)),
        }

    def rebuild(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """The images as the backbone saw them, and with the hidden patches as predicted, `[B, h, w, C]` in [0, 1].

        A prediction of normalised patches gets the mean and the deviation of the true ones, which were not asked for.
        """
        outputs = self.forward(batch, training=False)
        images, size, numbers = batch["image"], self.patches.size, outputs["hidden"]
        every = tf.zeros_like(patches.patchify(images, size), outputs["predicted"].dtype)
        rows = tf.repeat(tf.range(tf.shape(numbers)[0])[:, None], numbers.shape[1], axis=1)
        places = tf.stack([rows, numbers], axis=-1)
        values = tf.tensor_scatter_nd_update(every, places, outputs["predicted"])
        hidden = tf.tensor_scatter_nd_update(tf.zeros(every.shape[:2], tf.bool), places, tf.ones_like(numbers, tf.bool))
        painted = paint(images, hidden, values, size, self.options, by_patch=self.options.normalise_patches)
        return hide(images, hidden, size), painted

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray]:
        seen, rebuilt = self.rebuild(batch)
        return {"image": batch["image"].numpy(), "seen": seen.numpy(), "rebuilt": rebuilt.numpy()}
