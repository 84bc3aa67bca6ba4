"""What a process inherits that kzoo's results must not depend on: Keras' settings, matplotlib's, limits on training.

A command sets them for itself before TensorFlow is imported, or refuses in one line. Light: Keras is not imported.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kzoo.errors import SurroundingsError

_ALLOWED = {
    "floatx": ("float16", "float32", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
}
_CUTS = {"KERAS_MAX_EPOCHS": "train.epochs", "KERAS_MAX_STEPS_PER_EPOCH": "train.steps_per_epoch"}


def prepare() -> None:
    """Before TensorFlow and Keras are imported. Raises SurroundingsError for what would be misunderstood if ignored."""
    if found := next(problems(), None):
        raise SurroundingsError(found)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever keras.json says
    os.environ["MPLBACKEND"] = "agg"  # a notebook leaves the name of its own, which another environment lacks


def settle_keras() -> None:
    """After Keras is imported, before anything is built: what recipes and weights are written for."""
    keras = sys.modules.get("keras")
    if keras is None:
        return
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    logger = logging.getLogger("tensorflow")
    logger.addFilter(_is_no_advice_on_tracing)
    logger.setLevel(max(logger.level, logging.WARNING))  # a notebook shows where SavedModels put their assets, twice


def _is_no_advice_on_tracing(record: logging.LogRecord) -> bool:
    """Each run traces functions of its own; several in a notebook look like a loop to TensorFlow, which warns of it."""
    return "triggered tf.function retracing" not in record.getMessage()


def problems(*, by_hand: bool = False) -> Iterator[str]:
    """What nothing can be trained with, one line each. by_hand: what a command sets for itself, too."""
    path, settings = keras_settings()
    backend = os.environ.get("KERAS_BACKEND")
    if by_hand and not backend and isinstance(settings, dict):
        backend = settings.get("backend")
    if backend not in (None, "", "tensorflow"):
        yield f"Keras is set to the backend '{backend}'; kzoo needs KERAS_BACKEND=tensorflow"
    for name, key in _CUTS.items():
        if value := os.environ.get(name):
            yield f"{name}={value}: Keras would cut every training short; unset it, and set {key} in the recipe"
    if not isinstance(settings, dict):
        yield f"{path}: holds no settings; delete it, and Keras writes it anew"
        return
    for key, allowed in _ALLOWED.items():
        if settings.get(key, allowed[0]) not in allowed:
            yield f"{path}: {key} is {settings[key]!r}; Keras takes {' or '.join(allowed)}"
    if not isinstance(settings.get("epsilon", 0.0), float):
        yield f"{path}: epsilon is {settings['epsilon']!r}; Keras takes a number with a point, as 1e-07"


def keras_settings() -> tuple[Path, Any]:
    """Keras' configuration file, and what it says; {} where it is missing or no JSON, which Keras passes over too."""
    base = os.path.expanduser("~")
    home = os.environ.get("KERAS_HOME") or os.path.join(base if os.access(base, os.W_OK) else "/tmp", ".keras")
    path = Path(home, "keras.json")
    try:
        return path, json.loads(path.read_text())
    except PermissionError:
        return path, None  # where Keras cannot be imported
    except (OSError, ValueError):
        return path, {}


def refuse_by_hand() -> None:
    """Where models are built by hand the settings are the caller's own. Raises SurroundingsError for channels_first,
    and for another backend where Keras is not imported yet.
    """
    if "keras" not in sys.modules and (found := next(problems(by_hand=True), None)):
        raise SurroundingsError(found)
    import keras

    if (layout := keras.config.image_data_format()) != "channels_last":
        raise SurroundingsError(
            f"Keras is set to {layout}; kzoo's models need keras.config.set_image_data_format('channels_last')"
        )
