"""Which view of a batch a method takes for the partner of each other view, as something to look at."""

import numpy as np
import tensorflow as tf

Side = tuple[str, tf.Tensor, tf.Tensor]  # title; pictures [n, h, w, C] in [0, 1]; features [n, d] of unit norm


def matches(left: Side, right: Side) -> dict[str, np.ndarray | list[str]]:
    """Columns to draw: the left pictures, their partners, and of all right pictures the one most like each left one."""
    (title, pictures, features), (other, partners, others) = left, right
    chosen = np.argmax(np.asarray(features) @ np.asarray(others).T, axis=1)
    partners = np.asarray(partners)
    said = ["right" if choice == own else "wrong" for own, choice in enumerate(chosen)]
    return {title: np.asarray(pictures), other: partners, f"{other} chosen": partners[chosen], "": said}
