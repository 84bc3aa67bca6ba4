"""VICReg (Bardes, Ponce, LeCun, "VICReg: variance-invariance-covariance regularization for self-supervised learning",
ICLR 2022).
"""

import math

import tensorflow as tf

from kzoo.method import Batch, Logs
from kzoo_decorrelation.moments import covariances, off_diagonal
from kzoo_decorrelation.options import VICRegOptions
from kzoo_decorrelation.twins import Twins

_EPSILON = 1e-4  # added to variances


class VICReg(Twins):
    """Two views of an image have near embeddings, and each branch by itself keeps its units varied and uncorrelated.

    Two views `[B, h, w, C]` -> backbone `[B, D]` -> expander `[B, d]`, d as large as 8192, not normalised. With the
    variances and covariances of each branch over the global batch, the loss (equation 6) is

        invariance * mean (z_0 - z_1)^2
        + variance * mean over branches and units of max(0, 1 - sqrt(Var + 1e-4))
        + covariance * sum over branches of sum_i sum_{j != i} Cov_ij^2 / d

    No branch needs anything of the other but the first term.

    Deviations: the two branches' variance terms are averaged and their covariance terms added, as in the authors' code;
    the paper adds both.
    """

    options: VICRegOptions

    def matrix(self, outputs: Batch) -> tf.Tensor:
        """The covariances of the first view's embedding (equation 3)."""
        return covariances(outputs["z_0"])

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """Constant embeddings: variance * 0.99."""
        options = self.options
        invariance = tf.reduce_mean(tf.math.squared_difference(outputs["z_0"], outputs["z_1"]))
        branches = [covariances(outputs[name]) for name in ("z_0", "z_1")]
        deviations = tf.sqrt(tf.stack([tf.linalg.diag_part(each) for each in branches]) + _EPSILON)
        variance = tf.reduce_mean(tf.nn.relu(1.0 - deviations))
        width = outputs["z_0"].shape[-1]
        covariance = tf.add_n([tf.reduce_sum(tf.square(off_diagonal(each))) for each in branches]) / width
        return {
            "loss": options.invariance * invariance + options.variance * variance + options.covariance * covariance,
            "invariance": invariance,
            "variance": variance,
            "covariance": covariance,
        }

    def chance(self) -> dict[str, float]:
        return {"variance": 1.0 - math.sqrt(_EPSILON)}
