"""LeJEPA (Balestriero, LeCun, "LeJEPA: provable and scalable self-supervised learning without the heuristics",
2025).
"""

import numpy as np
import tensorflow as tf

from kzoo import augment, losses, replicas
from kzoo.layers import mlp_head
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in, normal
from kzoo_decorrelation.moments import PAIRS, covariances, picture
from kzoo_decorrelation.options import LeJEPAOptions


def unit_directions(key: tf.Tensor, count: int, width: int) -> tf.Tensor:
    """Random unit vectors `[count, width]` from one key, an int64 scalar."""
    keys = fold_in(fold_in(key[None], "directions"), tf.range(count))
    return losses.l2_normalize(normal(keys, (width,)))


def epps_pulley(y: tf.Tensor, points: int, bound: float) -> tf.Tensor:
    """How far each column of `y` `[b, ...]`, N values over all replicas, is from standard normal: `[...]`.

    N * integral of |phi(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt, phi(t) = mean of exp(i t y), by the trapezoid rule at
    `points` points from -bound to bound (Epps and Pulley 1983). The integrand is even, and 0 at 0: only the positive
    half is computed. N standard normal values, of any number: sqrt(2 pi) - sqrt(2 pi / 3) = 1.06 on average.
    """
    t = np.linspace(0.0, bound, points // 2 + 1)[1:]
    normal_function = np.exp(-(t**2) / 2)
    weights = 2 * t[0] * normal_function
    weights[-1] /= 2
    waves = [[tf.reduce_mean(wave(each * y), axis=0) for each in t] for wave in (tf.cos, tf.sin)]
    real, imaginary = tf.unstack(replicas.mean(tf.stack(waves)))  # phi of the global batch before it is squared
    shape = [-1] + [1] * (y.shape.rank - 1)
    expected, weights = (tf.reshape(tf.constant(values, y.dtype), shape) for values in (normal_function, weights))
    distance = tf.square(real - expected) + tf.square(imaginary)
    values = tf.cast(tf.shape(y)[0] * replicas.count(), y.dtype)
    return values * tf.reduce_sum(weights * distance, axis=0)


class LeJEPA(Method):
    """All views predict the mean of the large ones, and embeddings are kept standard normal in every direction.

    Two large views `[2B, H, W, C]`, n small ones `[nB, h, w, C]` -> backbone -> projector -> z `[B, V, d]`, V = 2 + n.
    There is no teacher, no stop-gradient and no predictor. With c the mean of an image's large views, the loss is

        (1 - sigreg) * mean over views, images and units of (z - c)^2
        + sigreg * mean over views of SIGReg(z_v)

    SIGReg ("sketched isotropic Gaussian regularisation") looks at the global batch of one view along M random unit
    directions, other ones in each step, and averages over them how far it is from standard normal by the statistic of
    Epps and Pulley. All embeddings equal would cost 0.4 N: that is what keeps them apart.

    The small setting that the authors publish has four equal views, none small, and d = 16.

    Deviations: none known from the paper's formulas, by which alone this is written. d = 128 is our choice.
    """

    options: LeJEPAOptions
    least_examples = 2
    visualised_examples = 256

    @staticmethod
    def pretext(batch: Batch, keys: tf.Tensor, options: LeJEPAOptions) -> Batch:
        large = [options.global_view.model_dump()] * options.global_views
        small = [options.local_view.model_dump()] * options.local_views
        sizes = {"size": options.size, "small_size": options.local_size, "share": 7 / 16}
        return augment.multi_crop(batch["image"], keys, large, small, **sizes)

    def build_heads(self) -> None:
        self.projector = mlp_head(self.options.projector, hidden_norm=True, name="projector")
        self.projector.build((None, self.width))

    def forward(self, batch: Batch, training: bool) -> Batch:
        """The projections z of all views, large ones first, `[b, V, d]`; the projector sees them in one batch."""
        views = {"large": self.options.global_views, "small": self.options.local_views}
        embedded = {size: self.embed(batch[size], training) for size in views if size in batch}
        z = self.projector(tf.concat(list(embedded.values()), axis=0), training=training)
        parts = tf.split(z, [tf.shape(each)[0] for each in embedded.values()])
        by_image = [
            tf.reshape(part, [-1, views[size], z.shape[-1]]) for size, part in zip(embedded, parts, strict=True)
        ]
        return {"z": tf.concat(by_image, axis=1)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """Standard normal noise for 2 + 6 views: 0.95 * 1.25 + 0.05 * 1.06."""
        options, z = self.options, outputs["z"]
        centre = tf.reduce_mean(z[:, : options.global_views], axis=1, keepdims=True)
        prediction = tf.reduce_mean(tf.math.squared_difference(z, centre))
        key = replicas.gather(batch["seed"][:1])[0]  # that of the batch's first example: new in each step
        directions = tf.cast(unit_directions(key, options.directions, z.shape[-1]), z.dtype)
        seen = tf.einsum("bvd,md->bvm", z, directions)
        sigreg = tf.reduce_mean(epps_pulley(seen, options.points, options.bound))
        loss = (1.0 - options.sigreg) * prediction + options.sigreg * sigreg
        return {"loss": loss, "prediction": prediction, "sigreg": sigreg}

    def chance(self) -> dict[str, float]:
        """Standard normal views that know nothing of each other."""
        large, small = self.options.global_views, self.options.local_views
        return {"prediction": 1.0 + (small - large) / (large * (large + small))}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """Some views, and the covariances of the first units over all examples: the identity where it succeeds."""
        z = self.forward(batch, training=False)["z"][:, 0]
        counts = {"large": self.options.global_views, "small": self.options.local_views}
        views = {f"{size} view": batch[size].numpy()[:: counts[size]][:PAIRS] for size in counts if size in batch}
        return {**views, **picture("covariances", covariances(z))}
