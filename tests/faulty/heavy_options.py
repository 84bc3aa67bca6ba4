"""Options that bring TensorFlow with them."""

import tensorflow  # noqa: F401

from kzoo.options import Options


class HeavyOptions(Options):
    pass
