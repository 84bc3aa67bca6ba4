import numpy as np
from sklearn.datasets import load_digits

from kzoo.data import array_source


def pen_digits(split, options):
    found = load_digits()
    part = np.arange(len(found.images)) % 5 == 0
    part = part if split == "test" else ~part
    images = np.uint8(found.images[part, :, :, None] * (255 / 16))
    return array_source("pen_digits", images, found.target[part], classes=tuple("0123456789"))
