"""data2vec for images (Baevski, Hsu, Xu, Babu, Gu, Auli, "data2vec: a general framework for self-supervised learning in
speech, vision and language", ICML 2022).
"""

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, patches
from kzoo.errors import OptionsError
from kzoo.layers import TransformerBlock
from kzoo.losses import full_precision
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in
from kzoo.state import EMATeacher
from kzoo_distillation.parts.masks import block_mask, smallest_block
from kzoo_distillation.parts.twins import spread
from kzoo_distillation.specs.data2vec import Data2VecOptions

_GREY, _SMALL = 0.5, 1e-5


class Data2Vec(Method):
    """Of each hidden patch the student says what the upper blocks of its teacher, who sees it, hold of it on average.

    Image `[B, h, w, C]`, 61 % of its T patches hidden in blocks: one learned vector stands for them -> backbone ->
    tokens -> Dense `[B, T, D]`. The teacher, a moving average of the backbone, sees the image whole, in inference mode.
    The target is the mean over its last 6 blocks of their outputs, each normalised over its features, and normalised
    again (section 3.3); no features are discrete, and each depends on the whole image. The loss is the mean over hidden
    patches and features of the smooth L1 distance: with beta 2, d^2 / 4 where |d| < 2, else |d| - 1.

    After the optimizer's step the teacher follows, at a constant momentum as in the published run of ViT-B. Downstream
    is the student, its tokens averaged: the class token is not trained to say anything.

    Deviations: a mean over each image's hidden patches, then over images, where the code takes all as one (119.5 of 196
    on average, at most 120); of the backbone, fixed positions and no layer scale, stochastic depth or dropout, where
    the paper's has a relative position bias, layer scale 1e-4 and stochastic depth.
    """

    options: Data2VecOptions

    @staticmethod
    def pretext(batch: Batch, keys: tf.Tensor, options: Data2VecOptions) -> Batch:
        size = options.size or batch["image"].shape[1]
        return {"image": augment.view(batch["image"], keys, size, **options.view.model_dump())}

    def build_heads(self) -> None:
        self.patches = patches.patches_of(self.backbone, "masked_tokens", method=self.name)
        self.mask_token = patches.MaskToken(self.patches.width)
        width = self.backbone.output["tokens"].shape[-1]
        self.head = keras.layers.Dense(width, name="head")
        self.head.build((None, None, width))
        self.teacher = EMATeacher([self.backbone])
        blocks = [layer for layer in self.teacher.models[0].layers if isinstance(layer, TransformerBlock)]
        if len(blocks) < self.options.blocks:
            raise OptionsError(
                [f"{self.name}: blocks: {self.options.blocks} are asked for; '{self.backbone.name}' has {len(blocks)}"]
            )
        upper = [block.output for block in blocks[-self.options.blocks :]]
        self.upper_blocks = keras.Model(self.teacher.models[0].input, upper, name="upper_blocks")
        mean = keras.layers.GlobalAveragePooling1D(name="mean_of_tokens")(self.backbone.output["tokens"])
        whole = {"embedding": mean, "tokens": self.backbone.output["tokens"]}
        self.downstream = keras.Model(self.backbone.input, whole, name=self.backbone.name)

    @property
    def encoder(self) -> keras.Model:
        return self.downstream

    def hidden(self, batch: Batch) -> tf.Tensor:
        """Which patches are hidden, bool `[B, T]`."""
        keys, grid = fold_in(batch["seed"], "mask"), self.patches.grid(batch["image"])
        most = tf.fill(tf.shape(keys), tf.floor(self.options.hidden * grid[0] * grid[1]))
        return block_mask(keys, grid, most, smallest_block(grid))

    def teach(self, images: tf.Tensor) -> tf.Tensor:
        """The target for each patch, `[b, T, D]`, of mean 0 and variance 1."""
        rows, columns = self.patches.grid(images)
        outputs = tf.nest.flatten(self.upper_blocks(images, training=False))
        upper = [normalised(tokens[:, -rows * columns :]) for tokens in outputs]  # a class token comes first
        return tf.stop_gradient(normalised(tf.add_n(upper) / len(upper)))

    def train_step(self, batch: Batch) -> Logs:
        momentum = self.value(self.options.momentum)
        logs = self.minimise({**batch, "taught": self.teach(batch["image"])})
        self.teacher.update(momentum)
        return logs

    def test_step(self, batch: Batch) -> Logs:
        return super().test_step({**batch, "taught": self.teach(batch["image"])})

    def forward(self, batch: Batch, training: bool) -> Batch:
        hidden, vector = self.hidden(batch), self.mask_token.read()
        tokens = patches.encode_masked(self.backbone, batch["image"], hidden, vector, training)["tokens"]
        return {"hidden": hidden, "said": self.head(tokens)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """An answer of 0 to normal targets: 0.2471. "spread", of the targets: 0 tells of collapse."""
        said, taught = outputs["said"], tf.cast(batch["taught"], outputs["said"].dtype)
        distance, beta = tf.abs(said - taught), self.options.beta
        error = tf.where(distance < beta, tf.square(distance) / (2 * beta), distance - beta / 2)
        weights = tf.cast(outputs["hidden"], said.dtype)
        counts = tf.maximum(tf.reduce_sum(weights, axis=1), 1.0)
        of_images = tf.reduce_sum(weights * tf.reduce_mean(error, axis=-1), axis=1) / counts
        return {
            "loss": tf.reduce_mean(of_images),
            "spread": spread(tf.reshape(taught, [-1, taught.shape[-1]])),
        }

    def chance(self) -> dict[str, float]:
        return {"loss": 0.2471}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """What the student sees of each image."""
        hidden, images, size = self.hidden(batch), batch["image"], self.patches.size
        values = tf.where(hidden[..., None], _GREY, patches.patchify(images, size))
        seen = patches.unpatchify(values, size, self.patches.grid(images))
        return {"image": images.numpy(), "seen": seen.numpy()}


def normalised(x: tf.Tensor) -> tf.Tensor:
    """Each vector `[..., D]` with mean 0 and variance 1, in full precision."""
    mean, variance = tf.nn.moments(full_precision(x), axes=[-1], keepdims=True)
    return (full_precision(x) - mean) * tf.math.rsqrt(variance + _SMALL)
