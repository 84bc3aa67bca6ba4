"""Monodepth (Godard, Mac Aodha, Brostow, "Unsupervised monocular depth estimation with left-right consistency", CVPR
2017).
"""

import numpy as np
import tensorflow as tf

from kzoo.data import Source, to_float
from kzoo.method import Batch, Logs, Method
from kzoo.modality import Signature
from kzoo.random import bernoulli, fold_in, in_double, uniform
from kzoo_temporal.options import MonodepthOptions
from kzoo_temporal.parts.depth_figures import LEAST_DISPARITY, disparity_figures, shown
from kzoo_temporal.parts.disparity import disparity_decoder, maps_of, pyramid
from kzoo_temporal.parts.photometric import dissimilarity, roughness, shift_columns


class Monodepth(Method):
    """From the left picture of a rectified pair, how far each pixel of either picture lies from its partner.

    Left picture `[B, H, W, 3]` -> backbone -> decoder -> at four scales the disparities d_l and d_r, shares of the
    width in (0, 0.3). Each picture is then made from the other, between columns linearly: left'(x) = right(x - d_l(x)),
    right'(x) = left(x + d_r(x)). Over all scales and both sides the loss sums 0.85 times the mean of (1 - SSIM) / 2 and
    0.15 times that of |I - I'| (how alike they are); 0.1 / 2^s times how rough the disparity is, less at edges; and
    |d_l - d_r(x - d_l)|, whether both sides agree. The right picture is never seen by the network.

    Augmentation: half of the pairs are mirrored and change sides; of half, gamma, brightness and colours vary alike
    on both sides.

    Deviations: the backbone gives the encoder, with as many skips as it has maps.
    """

    options: MonodepthOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: MonodepthOptions) -> Batch:
        left, right = to_float(batch["left"]), to_float(batch["right"])
        mirror = bernoulli(fold_in(seed, "mirror"), options.flip)[:, None, None, None]
        left, right = tf.where(mirror, right[:, :, ::-1], left), tf.where(mirror, left[:, :, ::-1], right)
        vary, channels = bernoulli(fold_in(seed, "vary"), options.vary)[:, None, None, None], left.shape[-1]

        def factor(name: str, low: float, high: float, count: int = 1) -> tf.Tensor:
            return tf.where(vary, uniform(fold_in(seed, name), (1, 1, count), low, high), 1.0)

        gamma, scale = factor("gamma", 0.8, 1.2), factor("brightness", 0.5, 2.0) * factor("colour", 0.8, 1.2, channels)

        def varied(image: tf.Tensor) -> tf.Tensor:
            changed = in_double(tf.pow, tf.maximum(image, 1e-6), gamma) * scale
            return tf.where(vary, tf.clip_by_value(changed, 0.0, 1.0), image)

        return {"left": varied(left), "right": varied(right)}

    def build_heads(self) -> None:
        self.maps = list(maps_of(self.backbone).values())
        self.decoder = disparity_decoder(self.backbone, self.options.decoder_width, 2, self.options.scales)

    def disparities(self, images: tf.Tensor, training: bool) -> list[tf.Tensor]:
        """d_l and d_r `[B, H / 2^s, W / 2^s, 2]` of left pictures, as shares of the width, the finest first."""
        outputs = self.backbone(images, training=training)
        found = self.decoder({name: outputs[name] for name in self.maps}, training=training)
        return [self.options.largest * disparity for disparity in found]

    def forward(self, batch: Batch, training: bool) -> Batch:
        found = self.disparities(batch["left"], training)
        return {f"disparity_{scale}": disparity for scale, disparity in enumerate(found)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        options, totals = self.options, {"photometric": 0.0, "rough": 0.0, "disagree": 0.0}
        scales = len(outputs)
        precise = outputs["disparity_0"].dtype
        lefts, rights = (pyramid(tf.cast(batch[side], precise), scales) for side in ("left", "right"))
        for scale, (left, right) in enumerate(zip(lefts, rights, strict=True)):
            d_left, d_right = tf.unstack(outputs[f"disparity_{scale}"], axis=-1)
            for image, made, own, other in (
                (left, shift_columns(right, -d_left), d_left, shift_columns(d_right[..., None], -d_left)),
                (right, shift_columns(left, d_right), d_right, shift_columns(d_left[..., None], d_right)),
            ):
                totals["photometric"] += photometric(image, made)
                totals["rough"] += roughness(own, image) / 2**scale
                totals["disagree"] += tf.reduce_mean(tf.abs(own - other[..., 0]))
        loss = totals["photometric"] + options.smoothness * totals["rough"] + options.consistency * totals["disagree"]
        return {"loss": loss, **totals}

    def predict_disparity(self, images: tf.Tensor) -> tf.Tensor:
        """The left disparity `[n, H, W]` of pictures in [0, 1], as a share of the width; of each and of its mirror
        image the mean, and near the sides, over a twentieth of the width, the one that sees beyond the other's border.
        """
        plain = self.disparities(images, training=False)[0][..., 0]
        mirrored = self.disparities(images[:, :, ::-1], training=False)[0][..., 0][:, :, ::-1]
        place = np.linspace(0.0, 1.0, plain.shape[2], dtype=np.float32)
        left = 1.0 - np.clip(20.0 * (place - 0.05), 0.0, 1.0)
        right = left[::-1]
        return right * plain + left * mirrored + (1.0 - left - right) * (plain + mirrored) / 2.0

    def signatures(self) -> dict[str, Signature]:
        """`depth`: "disparity" `[B, H, W]`, a share of the width, and "depth", its inverse: how far away, in units of
        the distance between the cameras times the focal length as a share of the width.
        """

        def depth(images: tf.Tensor) -> Batch:
            disparity = self.predict_disparity(images)
            return {"depth": 1.0 / tf.maximum(disparity, LEAST_DISPARITY), "disparity": disparity}

        return {"depth": depth}

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """Of held-out pairs: "photometric_error" of the left picture made from the right one at full size, beside that
        of no disparity and of the best constant one; and where the truth is known, the figures of depth.
        """
        source = test or train
        return disparity_figures(self.predict_disparity, photometric, source, self.options.largest)

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray]:
        found = self.predict_disparity(batch["left"]).numpy()
        made = shift_columns(batch["right"], -tf.constant(found, tf.float32)).numpy()
        columns = {"left": batch["left"].numpy(), "disparity": shown(found), "left from right": made}
        return {**columns, "truth": shown(raw["disparity"].numpy())} if "disparity" in raw else columns


def photometric(image: tf.Tensor, made: tf.Tensor) -> tf.Tensor:
    """0.85 times the mean (1 - SSIM) / 2 + 0.15 times the mean |I - I'|: a scalar."""
    return 0.85 * tf.reduce_mean(dissimilarity(image, made)) + 0.15 * tf.reduce_mean(tf.abs(image - made))
