"""Context encoder (Pathak, Krahenbuhl, Donahue, Darrell, Efros, "Feature learning by inpainting", CVPR 2016)."""

import keras
import numpy as np
import tensorflow as tf

from kzoo import replicas
from kzoo.augment import crop, draw_crops, draw_flips
from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization
from kzoo.losses import full_precision
from kzoo.method import Batch, Group, Logs, Method
from kzoo.random import fold_in, uniform
from kzoo_generative.adversarial import discriminator_loss, generator_loss, statistics_kept
from kzoo_generative.networks import DCGAN_DEVIATION, downconvolutions, features, normal, upconvolutions
from kzoo_generative.options import ContextEncoderOptions

MEAN_PIXEL = (117 / 255, 104 / 255, 123 / 255)  # in the order that the authors' code fills R, G, B with
_GREY = (0.299 * MEAN_PIXEL[0] + 0.587 * MEAN_PIXEL[1] + 0.114 * MEAN_PIXEL[2],)
_RIM = 10.0  # weight of the visible rim's error (section 3.2)
_GENERATOR_RATE = 10.0  # times the adversary's learning rate, where the two losses are mixed (authors' code)
_COARSE = 0.06  # side of the noise that random regions are cut from, as a share of the image's (authors' code)


class ContextEncoder(Method):
    """Fill a hole in the image from what surrounds it.

    A random square crop `[B, h, w, C]`, its hole filled with the mean pixel -> backbone -> its last map, flattened (the
    embedding, where it has no map) -> Dense `[B, bottleneck]` -> decoder -> tanh: the central square of half the side,
    or with random regions, an irregular quarter of the pixels, the whole image. Of the region asked for, a rim of
    `overlap` pixels stays visible.

    Loss: w L_rec + (1 - w) L_adv with w = `reconstruction`, on values in -1..1. L_rec is the mean squared error over
    the region, that of the rim counted tenfold. L_adv is the GAN loss of an adversary that sees the region (of a random
    one, the whole image with the region filled). Each step trains the adversary, then the generator, which is the
    backbone with its decoder, at ten times its learning rate. With w = 1, as for the paper's AlexNet features, there is
    no adversary. Decoder and adversary have no biases, as in the code, which zeroes them after every step.

    Downstream is the backbone's embedding, of whole images. Deviations: each image has a random region of its own,
    where the code cuts one for the batch, and their loss is that of the paper, over the region, where the code's
    is over the whole image; the paper's channel-wise layer for AlexNet is not offered.
    """

    options: ContextEncoderOptions
    least_examples = 2

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: ContextEncoderOptions) -> Batch:
        height, width = batch["image"].shape[1:3]
        size = options.size or height
        boxes = draw_crops(seed, height, width, options.scale, (1.0, 1.0))
        target = crop(batch["image"], boxes, draw_flips(seed, options.flip), size)
        if options.region == "centre":
            hole = size // 2 - 2 * options.overlap
            top = (size - size // 2) // 2 + options.overlap
            square = tf.pad(tf.ones((hole, hole)), [[top, size - hole - top]] * 2)
            hidden = tf.broadcast_to(square[None, :, :, None], [tf.shape(target)[0], size, size, 1])
        else:
            hidden = irregular_regions(fold_in(seed, "region"), size, options.covered)
        fill = tf.constant(MEAN_PIXEL if target.shape[-1] == 3 else _GREY, target.dtype)
        return {"image": tf.where(hidden > 0, fill, target), "target": target, "hidden": hidden}

    def build_heads(self) -> None:
        size, channels, options = self.input_size, self.backbone.input_shape[-1], self.options
        self.side = size // 2 if options.region == "centre" else size  # of what the decoder paints
        if options.region == "centre" and 2 * options.overlap >= self.side:
            raise OptionsError(
                [f"{self.name}: overlap: {options.overlap} on each side leaves no hole of {self.side} px"]
            )
        code = keras.layers.Dense(options.bottleneck, use_bias=False, kernel_initializer=normal(DCGAN_DEVIATION))
        x = code(features(self.backbone))
        x = keras.layers.LeakyReLU(0.2, name="code")(BatchNormalization(name="code_norm")(x))
        decoder = upconvolutions(
            options.bottleneck,
            self.side,
            channels,
            width=options.decoder_width,
            activation="tanh",
            deviation=DCGAN_DEVIATION,
            bias=False,
        )
        self.generator = keras.Model(self.backbone.input, decoder(x), name="generator")
        self.adversary = self._build_adversary(channels) if options.reconstruction < 1 else None

    def _build_adversary(self, channels: int) -> keras.Model:
        depth = max(1, (self.side - 1).bit_length() - 2)  # down to 3 or 4 pixels, which the last layer sees at once
        widths = tuple(min(8, 2**level) * self.options.adversary_width for level in range(depth))
        image = keras.Input((self.side, self.side, channels))
        last = keras.layers.Flatten()(downconvolutions(image, widths, kernel=4, bias=False)[-1])
        logit = keras.layers.Dense(1, use_bias=False, kernel_initializer=normal(DCGAN_DEVIATION), name="logit")(last)
        return keras.Model(image, logit, name="adversary")

    def optimizer_groups(self) -> dict[str, Group]:
        generator = self.generator.trainable_variables
        if self.adversary is None:
            return {"generator": Group(generator)}
        return {
            "generator": Group(generator, lr_scale=_GENERATOR_RATE),
            "adversary": Group(self.adversary.trainable_variables),
        }

    def train_step(self, batch: Batch) -> Logs:
        if self.adversary is None:
            return self.minimise(batch, groups="generator")
        of_adversary = self.minimise(batch, loss=self.adversary_step_loss, groups="adversary")
        of_generator = self.minimise(batch, loss=self.generator_step_loss, groups="generator")
        return {**of_adversary, **of_generator}

    def adversary_step_loss(self, batch: Batch) -> Logs:
        """The adversary's loss; changes nothing in the generator."""
        with statistics_kept(self.generator):
            painted = full_precision(tf.stop_gradient(self.generator(batch["image"], training=True)))
        real, fake = self.shown(batch, painted)
        loss = discriminator_loss(self.adversary(real, training=True), self.adversary(fake, training=True))
        return {"loss": loss, "adversary_loss": loss}

    def generator_step_loss(self, batch: Batch) -> Logs:
        """The generator's loss; changes nothing in the adversary."""
        painted = full_precision(self.generator(batch["image"], training=True))
        with statistics_kept(self.adversary):
            fake = self.adversary(self.shown(batch, painted)[1], training=True)
        return self.joint_loss(batch, painted, fake)

    def joint_loss(self, batch: Batch, painted: tf.Tensor, fake: tf.Tensor | None) -> Logs:
        """w L_rec + (1 - w) L_adv (equation 3), and the figures to judge it by.

        "reconstruction" is the error without the rim's extra weight; "variance" what painting the mean colour costs.
        """
        target, hidden, region = self.asked(batch, painted.dtype)
        error = tf.square(painted - target)
        rim = region - hidden
        weighted = _mean_over(hidden + _RIM * rim, region, error)
        logs = {"loss": weighted, "reconstruction": _mean_over(region, region, error)}
        if fake is not None:
            share = self.options.reconstruction
            logs["generator_loss"] = generator_loss(fake)
            logs["loss"] = share * weighted + (1.0 - share) * logs["generator_loss"]
        mean = tf.reduce_sum(region * target, (1, 2), keepdims=True) / tf.reduce_sum(region, (1, 2), keepdims=True)
        mean = replicas.mean(tf.reduce_mean(mean, 0, keepdims=True))
        return {**logs, "variance": _mean_over(region, region, tf.square(target - mean))}

    def asked(self, batch: Batch, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What is to be painted, in -1..1 `[B, s, s, C]`; where it was hidden, and where it is asked for (the hidden
        pixels and the rim), both 0 or 1 `[B, s, s, 1]`.
        """
        target, hidden = 2.0 * tf.cast(batch["target"], dtype) - 1.0, tf.cast(batch["hidden"], "float32")
        grown = 2 * self.options.overlap + 1
        region = tf.cast(tf.nn.max_pool2d(hidden, grown, 1, "SAME"), dtype)
        low = (target.shape[1] - self.side) // 2
        inside = slice(low, low + self.side)
        return target[:, inside, inside], tf.cast(hidden, dtype)[:, inside, inside], region[:, inside, inside]

    def shown(self, batch: Batch, painted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What the adversary tells apart: the image as it is, and with the region painted, `[B, s, s, C]` in -1..1."""
        target, _, region = self.asked(batch, painted.dtype)
        return target, tf.where(region > 0, painted, target)

    def forward(self, batch: Batch, training: bool) -> Batch:
        painted = full_precision(self.generator(batch["image"], training=training))
        if self.adversary is None:
            return {"painted": painted}
        real, fake = self.shown(batch, painted)
        return {
            "painted": painted,
            "real": self.adversary(real, training=training),
            "fake": self.adversary(fake, training=training),
        }

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        logs = self.joint_loss(batch, outputs["painted"], outputs.get("fake"))
        if self.adversary is not None:
            logs["adversary_loss"] = discriminator_loss(outputs["real"], outputs["fake"])
        return logs

    def chance(self) -> dict[str, float]:
        """Where the adversary always answers 1/2."""
        half = float(np.log(2.0))
        return {} if self.adversary is None else {"adversary_loss": 2 * half, "generator_loss": half}

    def fill(self, batch: Batch) -> tf.Tensor:
        """The images of a pretext batch with what was hidden painted, `[B, h, w, C]` in [0, 1], in inference mode."""
        painted = 0.5 + 0.5 * full_precision(self.generator(batch["image"], training=False))
        low = (batch["image"].shape[1] - self.side) // 2
        high = batch["image"].shape[1] - self.side - low
        painted = tf.pad(painted, [[0, 0], [low, high], [low, high], [0, 0]])
        return tf.where(batch["hidden"] > 0, painted, tf.cast(batch["image"], painted.dtype))

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray]:
        shown = {"seen": batch["image"], "filled": self.fill(batch), "the truth": batch["target"]}
        return {title: tf.cast(image, "float32").numpy() for title, image in shown.items()}


def irregular_regions(seed: tf.Tensor, size: int, covered: float) -> tf.Tensor:
    """A region of irregular outline for each key, 1 inside: float32 `[B, size, size, 1]`.

    Coarse noise, enlarged smoothly; the `covered` share of the pixels where it is lowest, exactly.
    """
    coarse = max(4, round(_COARSE * size))
    smooth = tf.image.resize(uniform(seed, (coarse, coarse, 1)), (size, size), "bicubic")
    flat = tf.reshape(smooth, [-1, size * size])
    threshold = tf.sort(flat, axis=-1)[:, round(covered * size * size)]
    return tf.reshape(tf.cast(flat < threshold[:, None], "float32"), [-1, size, size, 1])


def _mean_over(weight: tf.Tensor, region: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Weighted sum of values `[B, s, s, C]` over their number in the region, of each image; the mean over images."""
    places = tf.reduce_sum(region, (1, 2, 3)) * values.shape[-1]
    return tf.reduce_mean(tf.reduce_sum(weight * values, (1, 2, 3)) / places)
