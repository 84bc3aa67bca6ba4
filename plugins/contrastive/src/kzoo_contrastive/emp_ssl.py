"""EMP-SSL (Tong, Chen, Ma, LeCun, "EMP-SSL: towards self-supervised learning in one training epoch", 2023)."""

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, evaluate, losses, replicas
from kzoo.data import Source, evaluation_batches
from kzoo.layers import mlp_head
from kzoo.method import Batch, Logs, Method
from kzoo.random import example_keys, fold_in
from kzoo_contrastive.specs.emp_ssl import EMPSSLOptions

_PATCHES = 4096  # of a bag that go through the network at once


def coding_rate(z: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Total coding rate R = log det(I + d / (b epsilon) Z Z^T) / 2 of each matrix of unit-norm rows `[..., b, d]`.

    All rows equal: log(1 + d / epsilon) / 2. The upper bound, b orthonormal rows: b log(1 + d / (b epsilon)) / 2.
    epsilon is that of the released code, the square of the paper's.
    """
    rows, width = z.shape[-2] or tf.shape(z)[-2], z.shape[-1]
    # the determinant of the smaller of the two Gram matrices: they are the same (Sylvester)
    by_rows = isinstance(rows, int) and rows <= width
    gram = tf.matmul(z, z, transpose_b=True) if by_rows else tf.matmul(z, z, transpose_a=True)
    scale = tf.cast(width, z.dtype) / (tf.cast(rows, z.dtype) * epsilon)
    root = tf.linalg.cholesky(tf.eye(tf.shape(gram)[-1], dtype=z.dtype) + scale * gram)  # XLA has no determinant
    return tf.reduce_sum(tf.math.log(tf.linalg.diag_part(root)), axis=-1)


def repeated(images: tf.Tensor, keys: tf.Tensor, times: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Each image `times` times in a row, each time with a key of its own: `[B times, ...]` and int64 `[B times]`."""
    keys = fold_in(keys[:, None], tf.range(times, dtype=tf.int64)[None])
    return tf.repeat(images, times, axis=0), tf.reshape(keys, [-1])


class EMPSSL(Method):
    """Very many small patches of each image share one code, and the codes of a batch of images fill the space.

    n patches of an image `[B n, h, w, C]`, each a quarter of its area -> backbone -> Dense, batch normalisation, ReLU:
    the feature h `[B n, 4096]` -> projector -> z `[B n, 1024]` of unit norm. With the mean code of an image
    zbar = mean over its patches, through which the gradient flows, the loss is (equation 4)

        -invariance * mean cos(z, zbar) - mean over the n patch slots of R(codes of that slot, one of each image)

    with the total coding rate R. The more patches, the fewer epochs: the paper trains for one to thirty.

    The paper represents an image by its bag of patches, the mean of h over `bag` of them: `extra_metrics` probes that.
    What is exported, and what all methods are compared by, is the backbone's embedding of the whole image.
    """

    options: EMPSSLOptions
    least_examples = 2

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: EMPSSLOptions) -> Batch:
        size = options.patch_size or batch["image"].shape[1]
        images, keys = repeated(batch["image"], seed, options.patches)
        return {"patches": augment.view(images, keys, size, ratio=(1.0, 1.0), **options.view.model_dump())}

    def build_heads(self) -> None:
        self.projector = mlp_head(self.options.projector, hidden_norm=True, name="projector")
        self.projector.build((None, self.width))

    def forward(self, batch: Batch, training: bool) -> Batch:
        """The codes, unit norm, `[b, n, d]`."""
        z = losses.l2_normalize(self.projector(self.embed(batch["patches"], training), training=training))
        return {"codes": tf.reshape(z, [-1, self.options.patches, z.shape[-1]])}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """All codes of an image equal, those of b images orthonormal: -invariance - b log(1 + d / (b epsilon)) / 2."""
        codes = outputs["codes"]
        mean = losses.l2_normalize(tf.reduce_mean(codes, axis=1, keepdims=True))
        similarity = tf.reduce_mean(tf.reduce_sum(codes * mean, axis=2))
        slots = tf.transpose(replicas.gather(codes), [1, 0, 2])  # [n, B, d]: the same on every replica
        rate = tf.reduce_mean(coding_rate(slots, self.options.epsilon))
        loss = -self.options.invariance * similarity - rate
        return {"loss": loss, "similarity": similarity, "coding_rate": rate}

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """Linear and nearest-neighbour probe of the bag of patches; the patches are the pretext's, in plain colours."""
        if test is None or not train.classes:
            return {}
        x = self.backbone.output["embedding"]
        for layer in self.projector.layers[:3]:  # Dense, batch normalisation, ReLU
            x = layer(x)
        feature = keras.Model(self.backbone.input, x)

        @tf.function(reduce_retracing=True, autograph=False)
        def bag(images: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
            size, view = self.options.patch_size or images.shape[1], self.options.view
            images, keys = repeated(images, example_keys(0, 0, ids), self.options.bag)
            patches = augment.random_resized_crop(images, keys, size, view.scale, ratio=(1.0, 1.0), flip=view.flip)
            features = feature(patches, training=False)
            return tf.reduce_mean(tf.reshape(features, [-1, self.options.bag, features.shape[-1]]), axis=1)

        def bags(source: Source) -> evaluate.Features:
            batches: Iterable[Batch] = evaluation_batches(source, max(1, _PATCHES // self.options.bag))
            found = [(bag(batch["image"], batch["id"]), batch["label"], batch["id"]) for batch in batches]
            return evaluate.Features(*(np.concatenate(column) for column in zip(*found, strict=True)))

        train_bags, test_bags = bags(train), bags(test)
        return {
            "bag_of_patches_knn_accuracy": evaluate.knn(train_bags, test_bags),
            "bag_of_patches_linear_accuracy": evaluate.linear_probe(train_bags, test_bags)["test_accuracy"],
        }
