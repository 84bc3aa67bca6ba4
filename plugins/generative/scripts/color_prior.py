"""Measure how frequent the 313 colours of `colorization` are in photographs; writes color_prior.csv.

The photographs are those of everyday scenes that scikit-image and scikit-learn carry, each with the same weight. As in
Zhang, Isola, Efros 2016 (section 2.2), the shares of the colours are smoothed with a Gaussian of sigma 5.

    python plugins/generative/scripts/color_prior.py
"""

from pathlib import Path

import numpy as np
from kzoo_generative import color_bins
from skimage import data
from skimage.color import rgb2lab
from sklearn.datasets import load_sample_image

PHOTOGRAPHS = {
    "astronaut": data.astronaut,
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "rocket": data.rocket,
    "motorcycle": lambda: data.stereo_motorcycle()[0],
    "china": lambda: load_sample_image("china.jpg"),
    "flower": lambda: load_sample_image("flower.jpg"),
}
SIGMA = 5.0
TARGET = Path(color_bins.__file__).with_name("color_prior.csv")
HEADER = """\
# Share of each colour (a, b of CIE Lab) in photographs; made by scripts/color_prior.py, not by hand.
# Photographs: {names}
a,b,share
"""


def shares(photograph: np.ndarray) -> np.ndarray:
    """Share of each colour's pixels, `[313]`. The grid point nearest to a colour that sRGB has is always a bin."""
    ab = rgb2lab(photograph)[..., 1:].reshape(-1, 2)
    points, counts = np.unique(np.rint(ab / color_bins.STEP).astype(int) * color_bins.STEP, axis=0, return_counts=True)
    number = {tuple(colour): index for index, colour in enumerate(color_bins.BINS.astype(int).tolist())}
    found = np.zeros(len(number))
    found[[number[tuple(point)] for point in points.tolist()]] = counts
    return found / found.sum()


def prior() -> np.ndarray:
    """The smoothed shares, `[313]`, the mean over the photographs."""
    found = np.mean([shares(load()) for load in PHOTOGRAPHS.values()], axis=0)
    colours = color_bins.BINS.astype(float)
    spread = np.exp(-((colours[:, None] - colours) ** 2).sum(-1) / (2 * SIGMA**2))
    return (spread / spread.sum(axis=0)) @ found  # each colour gives away all it has


def main() -> None:
    rows = [f"{a:.0f},{b:.0f},{share:.6e}" for (a, b), share in zip(color_bins.BINS, prior(), strict=True)]
    TARGET.write_text(HEADER.format(names=", ".join(PHOTOGRAPHS)) + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
