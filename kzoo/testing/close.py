"""When outputs of a backbone are the same."""

import numpy as np
import tensorflow as tf

TOLERANCE = 1e-4  # of float32 outputs, of the largest value above 1: batches of another size round otherwise


def close(one: tf.Tensor, other: tf.Tensor) -> bool:
    """Equal up to rounding, which is as large as the largest values that were added."""
    scale = max(1.0, float(np.abs(np.asarray(one)).max()))
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=0.0, atol=TOLERANCE * scale))
