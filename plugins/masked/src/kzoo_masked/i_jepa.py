"""I-JEPA (Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun, Ballas, "Self-supervised learning from images with
a joint-embedding predictive architecture", CVPR 2023).
"""

import keras
import tensorflow as tf

from kzoo import augment, patches, replicas
from kzoo.losses import full_precision
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in
from kzoo.state import EMATeacher
from kzoo_masked.options import IJEPAOptions
from kzoo_masked.parts.encoders import mean_of_tokens
from kzoo_masked.parts.masks import ContextAndTargets, context_and_targets
from kzoo_masked.parts.predictor import Predictor


class IJEPA(Method):
    """From one large block of an image, what a moving-average encoder says of the patches of smaller ones.

    Image `[B, h, w, C]`. Context: a square of 0.85 to 1 of the area, less all targets -> backbone, on these patches
    alone -> predictor, a narrow transformer, which for each of four target blocks (0.15 to 0.2 of the area, height /
    width 0.75 to 1.5; they may overlap), in a pass of its own, gets a learned vector with the code of each place ->
    `[B, n, m, D]`. The target encoder, an exponential moving average of the backbone, sees the whole image; its tokens
    are normalised over their D features, without gradient. The loss is the mean smooth L1 distance (beta 1) between
    the two. After the optimizer's step the target encoder follows. It goes downstream, its tokens averaged.

    Deviations: all images keep as many patches of context, int(`context` T), at random among theirs, where the authors
    cut all to the fewest of a batch, by index; an image whose targets leave fewer draws anew. Blocks have a size for
    each image, not for each batch, and may lie anywhere. Weight decay does not rise. A class token, where there is one,
    takes part and is not trained to say anything: with `pool: mean` the ViTs here have none, like the paper's.
    """

    options: IJEPAOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: IJEPAOptions) -> Batch:
        size = options.size or batch["image"].shape[1]
        return {"image": augment.random_resized_crop(batch["image"], seed, size, options.scale, flip=0.0)}

    def build_heads(self) -> None:
        options = self.options
        self.patches = patches.patches_of(self.backbone, "token_subset", method=self.name)
        width = self.backbone.output["tokens"].shape[-1]
        sizes = options.predictor_width, options.predictor_depth, options.predictor_heads
        self.predictor = Predictor(width, *sizes, width, name="predictor")
        self.teacher = EMATeacher([self.backbone])
        self.downstream = mean_of_tokens(self.teacher.models[0])

    @property
    def encoder(self) -> keras.Model:
        return self.downstream

    def targets(self, batch: Batch, training: bool) -> tf.Tensor:
        """What the target encoder says of every patch, `[B, T, D]`, each normalised over its features."""
        tokens = full_precision(self.teacher.models[0](batch["image"], training=training)["tokens"])
        mean, variance = tf.nn.moments(tokens, axes=[-1], keepdims=True)
        return tf.stop_gradient((tokens - mean) * tf.math.rsqrt(variance + 1e-5))

    def train_step(self, batch: Batch) -> Logs:
        logs = self.minimise({**batch, "taught": self.targets(batch, training=True)})
        self.teacher.update(self.value(self.options.momentum))
        return logs

    def test_step(self, batch: Batch) -> Logs:
        return super().test_step({**batch, "taught": self.targets(batch, training=False)})

    def masks(self, batch: Batch) -> ContextAndTargets:
        """Context and target blocks of each image, from its key."""
        options = self.options
        return context_and_targets(
            fold_in(batch["seed"], "masks"),
            self.patches.grid(batch["image"]),
            context_scale=options.context_scale,
            kept=options.context,
            targets=options.targets,
            scale=options.target_scale,
            aspect=options.target_aspect,
        )

    def forward(self, batch: Batch, training: bool) -> Batch:
        drawn, blocks = self.masks(batch), self.options.targets
        tokens = patches.encode_kept(self.backbone, batch["image"], drawn.context, training)["tokens"]
        most = drawn.target.shape[2]
        predicted = self.predictor(
            tf.repeat(tokens, blocks, axis=0),
            tf.repeat(drawn.context, blocks, axis=0),
            tf.reshape(drawn.target, [-1, most]),
            grid=self.patches.grid(batch["image"]),
            visible=tf.reshape(drawn.real, [-1, most]),
        )
        predicted = tf.reshape(predicted, [-1, blocks, most, tokens.shape[-1]])
        return {"predicted": predicted, "target": drawn.target, "real": drawn.real}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """The mean over each block's patches, then over blocks and images. Of an answer of 0: about 0.4247.

        "spread" is the deviation of the targets over the images, at most 1: near 0 it tells of collapse.
        """
        predicted, places = outputs["predicted"], outputs["target"]
        taught = tf.cast(batch["taught"], predicted.dtype)
        wanted = tf.gather(taught, tf.reshape(places, [-1, places.shape[1] * places.shape[2]]), batch_dims=1)
        error = smooth_l1(predicted - tf.reshape(wanted, tf.shape(predicted)))
        weights = tf.cast(outputs["real"], error.dtype)
        block = tf.reduce_sum(weights * tf.reduce_mean(error, axis=-1), 2) / tf.reduce_sum(weights, 2)
        return {"loss": tf.reduce_mean(block), "spread": spread(taught)}

    def chance(self) -> dict[str, float]:
        """Of an answer of 0 where targets are normally distributed."""
        return {"loss": 0.4247}


def smooth_l1(difference: tf.Tensor) -> tf.Tensor:
    """d² / 2 for |d| below 1, else |d| - 1/2."""
    size = tf.abs(difference)
    return tf.where(size < 1.0, 0.5 * tf.square(size), size - 0.5)


def spread(tokens: tf.Tensor) -> tf.Tensor:
    """The standard deviation over the images of all replicas, of each feature of each place; root of the mean square.

    tokens: `[B, T, D]`. Over images alone: a collapsed encoder still tells places apart.
    """
    mean, square = replicas.mean([tf.reduce_mean(tokens, 0), tf.reduce_mean(tf.square(tokens), 0)])
    return tf.sqrt(tf.reduce_mean(tf.maximum(square - tf.square(mean), 0.0)))
