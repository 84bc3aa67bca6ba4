"""How good a disparity is, without the truth and with it, and how it is drawn."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kzoo.data import Source, to_float
from kzoo_temporal.parts.photometric import shift_columns

_CONSTANTS = 31  # constant disparities that are tried
LEAST_DISPARITY = 1e-6  # a share of the width; less is as far as can be
_PAIRS = 64  # most that are asked about


def disparity_figures(
    predict: Callable[[tf.Tensor], tf.Tensor],
    error: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    source: Source,
    largest: float,
) -> dict[str, float]:
    """What a disparity is worth on the pairs of a source.

    predict: pictures to disparity `[n, H, W]` as a share of the width. error: of a left picture and one that was made.
    "photometric_error" beside "..._of_zero" and "..._of_constant", that of the best constant disparity. Where the
    pairs have "disparity", in pixels: its "correlation" with what was predicted, and "abs_rel", "rmse" and "delta" (how
    often within a factor of 1.25) of depth, which is 1 / disparity, in units of the mean true depth.
    """
    count = min(_PAIRS, source.size)
    rows = np.linspace(0, source.size - 1, count).astype(np.int64)
    batch = source.decode(tf.constant(rows))
    left, right = to_float(batch["left"]), to_float(batch["right"])
    found = np.concatenate([predict(left[start : start + 8]).numpy() for start in range(0, count, 8)])

    def made(shift: np.ndarray) -> float:
        return float(error(left, shift_columns(right, -tf.constant(shift, tf.float32))))

    constants = [made(np.full(found.shape, value)) for value in np.linspace(0, largest, _CONSTANTS)]
    figures = {
        "photometric_error": made(found),
        "photometric_error_of_zero": constants[0],
        "photometric_error_of_constant": min(constants),
    }
    if "disparity" in batch:
        true = batch["disparity"].numpy() / left.shape[2]
        known = true > 0
        figures |= depth_figures(found[known], true[known])
    return figures


def depth_figures(found: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Of disparities `[n]` of which the true ones are known and above 0."""
    depth, wanted = 1.0 / np.maximum(found, LEAST_DISPARITY), 1.0 / true
    depth, wanted = depth / wanted.mean(), wanted / wanted.mean()
    ratio = np.maximum(depth / wanted, wanted / depth)
    spread = found.std() * true.std()
    return {
        "correlation": float(((found - found.mean()) * (true - true.mean())).mean() / spread) if spread else 0.0,
        "abs_rel": float((np.abs(depth - wanted) / wanted).mean()),
        "rmse": float(np.sqrt(np.square(depth - wanted).mean())),
        "delta": float((ratio < 1.25).mean()),
    }


def shown(disparity: np.ndarray) -> np.ndarray:
    """Disparities `[n, H, W]` as pictures `[n, H, W, 3]`, each from its least, dark blue, to its largest, yellow."""
    low, high = (np.quantile(disparity, share, axis=(1, 2), keepdims=True) for share in (0.02, 0.98))
    place = np.clip((disparity - low) / np.maximum(high - low, 1e-9), 0.0, 1.0)
    marks = np.array([[0.05, 0.03, 0.35], [0.45, 0.05, 0.65], [0.85, 0.3, 0.4], [0.98, 0.65, 0.25], [0.95, 0.95, 0.3]])
    steps = np.linspace(0.0, 1.0, len(marks))
    return np.stack([np.interp(place, steps, marks[:, channel]) for channel in range(3)], axis=-1).astype("float32")
