"""Presets: KerasHub's folders of a network's shape and weights, on this machine or downloaded by name."""

import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import keras

from kzoo.errors import OptionsError
from kzoo.system import disk

MODELS = {"resnet": "ResNetBackbone", "vit": "ViTBackbone", "dinov2": "DINOV2Backbone", "dinov3": "DINOV3Backbone"}

# where a preset does not say how its images were scaled: mean and standard deviation of each channel, in [0, 1]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NORMALISATION = {"resnet": IMAGENET, "vit": ((0.5,) * 3, (0.5,) * 3), "dinov2": IMAGENET, "dinov3": IMAGENET}


def model_class(architecture: str) -> type[keras.Model]:
    """KerasHub's class of an architecture."""
    import keras_hub  # takes seconds: not before it is needed

    return getattr(keras_hub.models, MODELS[architecture])


def load(preset: str, architecture: str, **settings: Any) -> keras.Model:
    """The network of a preset with its weights.

    preset: a folder, a name, or a handle such as "hf://...". architecture: a key of `MODELS`. settings: arguments that
    replace the preset's own.
    Raises: OptionsError if there is no such preset, it cannot be fetched or read, or it holds another network.
    """
    if os.path.isabs(preset):
        _check_folder(Path(preset), architecture)
    model = model_class(architecture)
    if not os.path.isabs(preset) and "://" not in preset and preset not in model.presets:
        near = get_close_matches(preset, model.presets, n=1, cutoff=0.0)[0]
        raise OptionsError(
            f"keras_hub/{architecture}: no preset named '{preset}'; KerasHub has {', '.join(model.presets)}; "
            f"did you mean '{near}', or a folder: './{preset}'?"
        )
    try:
        return model.from_preset(preset, **settings)
    except Exception as error:
        if disk.refusal(error) is not None:
            raise
        said = " ".join(str(error).split())[:200]
        raise OptionsError(
            f"keras_hub/{architecture}: preset {preset} could not be loaded ({type(error).__name__}: {said}); "
            + (
                "save it again with save_to_preset"
                if os.path.isabs(preset)
                else f'where it can be fetched, run keras_hub.models.{model.__name__}.from_preset("{preset}")'
                '.save_to_preset("FOLDER"), bring the folder here, and set backbone.options.preset to it'
            )
        ) from error


def scaling(preset: str | None, architecture: str) -> tuple[list[float], list[float]]:
    """Scale and offset of each channel that the network wants of values in [0, 1]: a preset's own, or the usual."""
    if preset is not None:
        import keras_hub

        try:
            converter = keras_hub.layers.ImageConverter.from_preset(preset)
        except (FileNotFoundError, ValueError):  # a backbone that was saved alone
            converter = None
        if converter is not None:
            scale, offset = (
                [float(value)] * 3 if isinstance(value, int | float) else [float(one) for one in value]
                for value in (
                    1.0 if converter.scale is None else converter.scale,
                    0.0 if converter.offset is None else converter.offset,
                )
            )
            return [255.0 * value for value in scale], offset
    means, deviations = NORMALISATION[architecture]
    return [1.0 / std for std in deviations], [-mean / std for mean, std in zip(means, deviations, strict=True)]


def _check_folder(folder: Path, architecture: str) -> None:
    try:
        config = json.loads((folder / "config.json").read_bytes())
        named = config.get("class_name", "")
    except (FileNotFoundError, NotADirectoryError):
        raise OptionsError(
            f"keras_hub/{architecture}: {folder} holds no preset (no config.json); set backbone.options.preset to a "
            "folder that save_to_preset wrote, or to the name of a preset"
        ) from None
    except (ValueError, AttributeError):
        raise OptionsError(
            f"keras_hub/{architecture}: {folder / 'config.json'} cannot be read; save the preset again with "
            "save_to_preset"
        ) from None
    if named and named != MODELS[architecture]:
        others = [f"keras_hub/{name}" for name, model in MODELS.items() if model == named]
        raise OptionsError(
            f"keras_hub/{architecture}: {folder} holds a {named}, not a {MODELS[architecture]}; "
            + (f"set backbone.name to {others[0]}" if others else "set backbone.options.preset to another folder")
        )
