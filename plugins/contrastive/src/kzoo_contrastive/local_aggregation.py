"""Local aggregation (Zhuang, Zhai, Yamins, "Local aggregation for unsupervised learning of visual embeddings", ICCV
2019).
"""

import numpy as np
import tensorflow as tf
from joblib import Parallel, delayed
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from kzoo import replicas
from kzoo.errors import OptionsError
from kzoo.method import Batch, Logs
from kzoo_contrastive.inst_disc import MEAN, InstDisc
from kzoo_contrastive.parts.nce import dot_products, draw_with_noise, mean_exponential
from kzoo_contrastive.specs.local_aggregation import LocalAggregationOptions

_LEAST = 1e-7  # share of the close neighbours below which the loss does not grow further; the authors'


class LocalAggregation(InstDisc):
    """An image moves towards its close neighbours, relative to its background neighbours, both found in the bank.

    The first `warmup_epochs` are instance discrimination. Then, for the feature f of image i: the background B are the
    `background` entries most similar to f; the close neighbours C those that share a cluster with i in at least one of
    `clusterings` k-means clusterings of the bank, made anew at the beginning of every epoch. With
    P = exp(f . v / temperature) the loss is -log(sum of P over C and B / sum of P over B) (equations 3 to 6); the
    constant Z of instance discrimination cancels. Before the first clustering every image is a cluster of its own.

    Memory: beside the bank, n x `clusterings` x 4 bytes for the clusters on every replica; the neighbours of one step
    take b x `background` x 128 x 4. The bank is searched in blocks. k-means runs on the processor, in every process,
    as many clusterings at once as there are cores, each on a copy of the bank. With 1.28 million examples and 30,000
    clusters an iteration is 10^13 operations: hours on a few cores, where the authors use a GPU.
    """

    options: LocalAggregationOptions

    def build_heads(self) -> None:
        super().build_heads()
        examples, options = self.require_examples(), self.options
        if max(options.background, options.clusters) >= examples:
            raise OptionsError(
                f"{self.name}: background={options.background} and clusters={options.clusters} must be below the "
                f"number of training examples, {examples}; a tenth and a fortieth of it give the loss something to tell"
            )
        self.clusters = self.add_weight(
            name="clusters",
            shape=(examples, options.clusterings),
            dtype="int32",
            initializer=lambda shape, dtype: tf.repeat(tf.range(shape[0])[:, None], shape[1], axis=1),
            trainable=False,
        )

    def begin_epoch(self, epoch: int) -> None:
        """Cluster the bank after the warm-up; not before the very first epoch, when it holds no features yet."""
        if epoch >= max(1, self.options.warmup_epochs):
            entries = np.asarray(replicas.copies(self.bank.entries)[0])
            replicas.assign(self.clusters, self.cluster(entries, epoch))

    def cluster(self, entries: np.ndarray, epoch: int) -> np.ndarray:
        """The clusters, int32 `[n, clusterings]` in [0, clusters), of entries `[n, d]`: k-means from random entries."""

        def clustering(number: int) -> np.ndarray:
            kmeans = KMeans(
                self.options.clusters,
                init="random",
                n_init=1,
                max_iter=self.options.iterations,
                random_state=epoch * self.options.clusterings + number,
            )
            # of several threads each adds its part of a sum when it is done, and the sum would differ from run to run
            with threadpool_limits(1, "openmp"):
                return kmeans.fit_predict(entries)

        with threadpool_limits(1, "blas"):
            each = Parallel(-1, prefer="threads")(delayed(clustering)(i) for i in range(self.options.clusterings))
        return np.stack(each, axis=1).astype(np.int32)

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """The loss whose turn it is; close: the share of the background neighbours that are close, in [0, 1]."""
        feature, aggregating = outputs["feature"], self.epoch() >= self.options.warmup_epochs
        noise, background = 1 + self.options.noise, self.options.background

        def padded(ids: tf.Tensor) -> tf.Tensor:
            return tf.pad(ids, [[0, 0], [0, max(noise, background) - ids.shape[1]]])

        # only the choice of entries is conditional: both losses of some scores are cheap, but searching the bank is not
        ids = tf.cond(
            aggregating,
            lambda: padded(self.bank.nearest(feature, background)),
            lambda: padded(draw_with_noise(batch["id"], batch["seed"], self.options.noise, self.bank.size)),
        )
        scores = dot_products(feature, self.bank.read(ids)) / self.options.temperature
        warm_up, mean = self.noise_contrast.loss(scores[:, :noise]), mean_exponential(scores[:, :noise])
        loss, close = self.aggregate(scores[:, :background], ids[:, :background], batch["id"])
        return {
            "loss": tf.where(aggregating, loss, warm_up),
            "close": tf.where(aggregating, close, 0.0),
            MEAN: tf.where(aggregating, tf.zeros_like(mean), mean),
        }

    def aggregate(self, scores: tf.Tensor, background: tf.Tensor, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss, and the share of B that is in C.

        scores: f . v / temperature of the background neighbours, whose ids `background` are, both `[b, k]`.
        ids: of the examples themselves, `[b]`.
        """
        clusters = replicas.local(self.clusters)
        same = tf.gather(clusters, background) == tf.gather(clusters, ids)[:, None]  # [b, k, clusterings]
        close = tf.cast(tf.reduce_any(same, axis=2), scores.dtype)
        share = tf.reduce_sum(close * tf.nn.softmax(scores), axis=1)
        return -tf.reduce_mean(tf.math.log(share + _LEAST)), tf.reduce_mean(close)
