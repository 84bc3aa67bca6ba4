"""The 313 colours that a pixel is classified into, and how frequent they are in photographs. NumPy only.

The colours are the authors' (Zhang, Isola, Efros 2016): points of a grid of step 10 in the ab plane of CIE Lab, those
that sRGB has and some just beyond. For each a, one run of b.
"""

from functools import cache
from importlib import resources

import numpy as np

STEP = 10

_RUNS = {  # a: (lowest b, highest b)
    -90: (50, 90),
    -80: (20, 90),
    -70: (0, 90),
    -60: (-20, 90),
    -50: (-30, 100),
    -40: (-40, 100),
    -30: (-50, 100),
    -20: (-50, 100),
    -10: (-60, 100),
    0: (-70, 100),
    10: (-80, 90),
    20: (-80, 90),
    30: (-90, 90),
    40: (-100, 90),
    50: (-100, 80),
    60: (-110, 80),
    70: (-110, 80),
    80: (-110, 70),
    90: (-110, 70),
    100: (-90, 0),
}

BINS = np.array([(a, b) for a, (low, high) in _RUNS.items() for b in range(low, high + 1, STEP)], "float32")
"""(a, b) of each colour, `[313, 2]`, by a, then b."""


@cache
def prior() -> np.ndarray:
    """How frequent each colour is in photographs, float64 `[313]`, all above 0, of sum 1.

    From color_prior.csv, which scripts/color_prior.py of this plugin has made.
    """
    text = resources.files("kzoo_generative").joinpath("color_prior.csv").read_text()
    table = np.array([line.split(",") for line in text.splitlines() if not line.startswith("#")][1:], float)
    if not np.array_equal(table[:, :2], BINS):
        raise ValueError("color_prior.csv: its colours are not those of color_bins.BINS, in that order")
    return table[:, 2] / table[:, 2].sum()


def rebalancing(mix: float) -> np.ndarray:
    """Weight of each colour, `[313]`: 1 / ((1 - mix) p + mix / 313), scaled so that sum p w = 1 (equation 4)."""
    p = prior()
    weight = 1.0 / ((1.0 - mix) * p + mix / len(p))
    return weight / np.sum(p * weight)
