"""Losses that several plugins share. Each returns the mean over this replica's examples, in float32 or better.

Features gathered from the other replicas keep their gradient, so that summing the replicas' gradients gives exactly
that of the loss of the joint batch.
"""

import tensorflow as tf

from kzoo import replicas

_MASKED = -1e9  # a logit that no softmax sees


def full_precision(x: tf.Tensor) -> tf.Tensor:
    """Half-precision floats as float32; everything else as it is."""
    return tf.cast(x, "float32") if x.dtype in (tf.float16, tf.bfloat16) else x


def l2_normalize(x: tf.Tensor) -> tf.Tensor:
    """Rows `[..., d]` scaled to unit norm in full precision; the gradient is finite at 0."""
    return tf.math.l2_normalize(full_precision(x), axis=-1, epsilon=1e-12)


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Mean softmax cross-entropy, natural logarithm. logits `[b, k]`, labels int `[b]`."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=full_precision(logits)))


def decoupled_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Decoupled contrastive loss (Yeh et al. 2022, arXiv:2110.06848, equation 4): the positive leaves the denominator.

    Mean of log sum_negatives exp(logit) - positive logit; all logits equal: log of the number of negatives. Its
    gradient does not vanish where the positive is found easily, as in small batches. Arguments as `cross_entropy`.
    """
    logits = full_precision(logits)
    own = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False)
    negatives = tf.reduce_logsumexp(tf.where(own, tf.constant(_MASKED, logits.dtype), logits), axis=1)
    return tf.reduce_mean(negatives - tf.gather(logits, labels, batch_dims=1))


def accuracy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Share of rows whose largest logit is the label, in [0, 1]."""
    hits = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), tf.cast(labels, tf.int32))
    return tf.reduce_mean(tf.cast(hits, "float32"))


def mean_of(values: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """The mean of the rows `[b]` that are counted, bool `[b]`, over those of all replicas; 0 where there are none.

    Each replica may count another number: what it returns is its part, so that the average over the replicas is the
    mean of the joint batch.
    """
    total = replicas.total(tf.reduce_sum(tf.cast(counted, values.dtype)))
    own = tf.reduce_sum(tf.where(counted, values, tf.zeros_like(values)))
    return replicas.count() * own / tf.maximum(total, 1)


def own_columns(batch: int | tf.Tensor) -> tf.Tensor:
    """Column numbers, int32 `[b]`, at which this replica's rows stand in a gathered batch."""
    return tf.range(batch) + replicas.index() * batch


def nt_xent_logits(z_0: tf.Tensor, z_1: tf.Tensor, temperature: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The two sets of logits of NT-Xent and the label of each row.

    Args:
        z_0, z_1: projections of two views, `[b, d]`, not yet normalised.

    Returns:
        logits of view 0 and of view 1, `[b, 2B]`: similarity with the other view of every example (columns 0..B-1),
        then with the same view (B..2B-1, itself masked); and the labels `[b]`, the column of the positive.
    """
    z_0, z_1 = l2_normalize(z_0), l2_normalize(z_1)
    all_0, all_1 = replicas.gather(z_0), replicas.gather(z_1)
    labels = own_columns(tf.shape(z_0)[0])
    itself = _MASKED * tf.one_hot(labels, tf.shape(all_0)[0], dtype=z_0.dtype)
    from_0 = tf.concat(
        [tf.matmul(z_0, all_1, transpose_b=True), tf.matmul(z_0, all_0, transpose_b=True) + itself], axis=1
    )
    from_1 = tf.concat(
        [tf.matmul(z_1, all_0, transpose_b=True), tf.matmul(z_1, all_1, transpose_b=True) + itself], axis=1
    )
    return from_0 / temperature, from_1 / temperature, labels


def info_nce_logits(query: tf.Tensor, key: tf.Tensor, negatives: tf.Tensor, temperature: float) -> tf.Tensor:
    """Logits `[b, 1 + K]` of each query against its key (column 0) and K negatives (He et al. 2020, equation 1).

    Args:
        query, key: unit-norm `[b, d]`. negatives: unit-norm `[K, d]`.
    """
    positive = tf.reduce_sum(query * key, axis=-1, keepdims=True)
    return tf.concat([positive, tf.matmul(query, negatives, transpose_b=True)], axis=1) / temperature


def sinkhorn(logits: tf.Tensor, iterations: int = 3, counted: tf.Tensor | None = None) -> tf.Tensor:
    """Codes `[b, K]`: how much each row belongs to each prototype, all prototypes used alike (Caron et al. 2020, SwAV).

    exp(logits) is scaled in turn so that all prototypes have one sum over the rows of all replicas, and each row sums
    to 1 (Cuturi 2013). Equal logits: 1 / K. Without gradient, in full precision, and by logarithms, so that nothing
    overflows.

    Args:
        logits: `[b, K]`, scores divided by the temperature.
        counted: bool `[b]`, which rows the prototypes are shared among; by default all. The others take no part in the
            sums, and their codes follow from those of the rest. Each replica may count another number.
    """
    log_codes = tf.stop_gradient(full_precision(logits))
    for _ in range(iterations):
        rows = log_codes if counted is None else tf.where(counted[:, None], log_codes, _MASKED)
        shares = replicas.gather(tf.reduce_logsumexp(rows, axis=0, keepdims=True))
        log_codes = tf.nn.log_softmax(log_codes - tf.reduce_logsumexp(shares, axis=0))
    return tf.exp(log_codes)
