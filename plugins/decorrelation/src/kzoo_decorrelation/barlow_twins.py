"""Barlow Twins (Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins: self-supervised learning via redundancy reduction",
ICML 2021).
"""

import tensorflow as tf

from kzoo import replicas
from kzoo.method import Batch, Group, Logs
from kzoo_decorrelation.moments import centred, moments, off_diagonal
from kzoo_decorrelation.options import BarlowTwinsOptions
from kzoo_decorrelation.twins import Twins

_EPSILON = 1e-5  # of the authors' batch normalisation of the embeddings


def standardised(z: tf.Tensor) -> tf.Tensor:
    """Each unit with mean 0 and variance 1 over the rows `[b, d]` of all replicas; a constant one is 0."""
    z = centred(z)
    return z * tf.math.rsqrt(replicas.mean(tf.reduce_mean(tf.square(z), axis=0)) + _EPSILON)


class BarlowTwins(Twins):
    """Each unit says the same of both views, and different units say different things.

    Two views `[B, h, w, C]` -> backbone `[B, D]` -> projector `[B, d]`, d as large as 8192. With each unit standardised
    over the global batch, C `[d, d]` holds the correlations of all units of one view with all of the other. The loss
    (equation 1) pulls its diagonal to 1, which makes units invariant, and the rest to 0, which makes them redundant no
    more:

        sum_i (1 - C_ii)^2 + redundancy * sum_i sum_{j != i} C_ij^2

    LARS moves biases and normalisation at a rate of their own, `bias_lr_scale` of that of the weights.

    Deviations: the standardisation is in the loss, without moving statistics, which the authors' layer has and nothing
    reads.
    """

    options: BarlowTwinsOptions

    def optimizer_groups(self) -> dict[str, Group]:
        weights = [variable for variable in self.trainable_variables if len(variable.shape) > 1]
        biases = [variable for variable in self.trainable_variables if len(variable.shape) <= 1]
        return {"weights": Group(weights), "biases": Group(biases, lr_scale=self.options.bias_lr_scale)}

    def matrix(self, outputs: Batch) -> tf.Tensor:
        """The cross-correlation C (equation 2)."""
        return moments(standardised(outputs["z_0"]), standardised(outputs["z_1"]))

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """Constant embeddings: d. All units equal, and equal views: redundancy * d (d - 1)."""
        correlation = self.matrix(outputs)
        invariance = tf.reduce_sum(tf.square(1.0 - tf.linalg.diag_part(correlation)))
        redundancy = tf.reduce_sum(tf.square(off_diagonal(correlation)))
        return {
            "loss": invariance + self.options.redundancy * redundancy,
            "invariance": invariance,
            "redundancy": redundancy,
        }

    def chance(self) -> dict[str, float]:
        return {"invariance": float(self.options.projector[-1])}
