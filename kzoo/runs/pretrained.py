"""A trained backbone as an ordinary Keras model, and a backbone that begins with the weights of another."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo.errors import BackboneError
from kzoo.plugins import registry
from kzoo.plugins.load import describe
from kzoo.runs.build import open_data
from kzoo.runs.kept import Kept, find_kept
from kzoo.runs.run import Run


def load_backbone(place: str | Path) -> keras.Model:
    """The trained backbone of a run, an export or a preset: an ordinary Keras model, all of it trainable, in float32.

    It takes float images in [0, 1] `[B, H, W, C]`, or int32 tokens `[B, T]`, and answers a dict with "embedding"
    `[B, D]`. It is what goes downstream: of a method that adds to its backbone, or trains a teacher, that.

    place: the folder of a run, of an export, or of one version of an export; or the name of a preset, as
        `kzoo list presets` has it.
    Raises BackboneError: there is none, its file is not the one that was written (PresetError, of a preset), or a
    plugin it needs is missing; EvaluationError where the training of the run has not ended; PluginError where no plugin
    brings the preset.
    """
    return open_kept(find_current(place))


def find_current(place: str | Path) -> Kept:
    """As `find_kept`; of a run that does not keep it yet, or has trained on since, made now, which needs its data.

    Raises as `load_backbone` does, and DataError where the data are needed and missing.
    """
    run = Run(Path(place))
    if not registry.names_preset(str(place)) and (run.folder / "recipe.yaml").is_file() and not run.keeps_model():
        run.encoder(open_data(run.recipe.data))
    return find_kept(place)


def open_kept(kept: Kept) -> keras.Model:
    """Load it. Raises BackboneError where Keras cannot."""
    try:
        model = keras.saving.load_model(kept.path, compile=False)
    except Exception as error:  # Keras raises nearly anything where a class or a version is another
        plugins = "that its distribution asks for" if kept.preset else "that its kzoo.json names"
        raise BackboneError(
            f"{kept.path}: cannot be loaded: {describe(error)}; install the plugins {plugins}"
        ) from error
    model.trainable = True
    return model


def answer(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """A backbone's embeddings `[n, D]`, float32, of uint8 images `[n, H, W, C]` or int32 tokens `[n, T]`."""
    batch = inputs.astype("float32") / 255 if inputs.dtype == np.uint8 else inputs
    return np.asarray(model(batch, training=False)["embedding"], "float32")


class Initial:
    """The trained backbone that a training begins with. Raises as `load_backbone` does."""

    def __init__(self, place: str | Path):
        kept = find_current(place)
        self.place = kept.place
        self.made_from = {"preset" if kept.preset else "folder": kept.title, **kept.made_from}
        self._model = open_kept(kept)

    def begin(self, backbone: keras.Model) -> None:
        """Give a backbone the weights of the trained one, which may have layers around: what its method put before or
        behind the backbone is left. Raises BackboneError where it holds no such weights.
        """
        ours, theirs = ([_described(weight) for weight in model.weights] for model in (backbone, self._model))
        starts = [start for start in range(len(theirs) - len(ours) + 1) if theirs[start : start + len(ours)] == ours]
        if len(starts) != 1:
            what = _difference(ours, theirs)
            raise BackboneError(f"init_from: {self.place}: {what}; set its backbone and its options")
        for weight, value in zip(backbone.weights, self._model.weights[starts[0] :], strict=False):
            weight.assign(value.numpy())


def _described(weight: Any) -> tuple[str, tuple[int, ...]]:
    """Role and shape: names of layers count up within a process, so they may differ."""
    return weight.path.rpartition("/")[2], tuple(weight.shape)


def _difference(ours: list[Any], theirs: list[Any]) -> str:
    """Where two lists of weights differ first, in words."""
    for number, (own, other) in enumerate(zip(ours, theirs, strict=False)):
        if own != other:
            (name, shape), (role, there) = own, other
            return f"weight {number} is {role} {list(there)} there, and {name} {list(shape)} in this recipe's backbone"
    return f"it holds {len(theirs)} weights, and this recipe's backbone has {len(ours)}"
