"""kzoo: the self-supervised model zoo for Keras 3.

`import kzoo` is light: a name is imported from its module when it is first used, and only `kzoo.Method` and what builds
models bring Keras and TensorFlow with them. From then on `keras.saving.load_model` finds the classes of every plugin.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kzoo.plugins import loading

if TYPE_CHECKING:
    from kzoo.errors import (
        BackboneError,
        CheckpointError,
        DataError,
        EvaluationError,
        ExportError,
        KzooError,
        OptionsError,
        PluginError,
        PresetError,
        RecipeError,
        StrategyError,
        SurroundingsError,
        TrainingError,
    )
    from kzoo.hookspecs import hookimpl
    from kzoo.method import Method
    from kzoo.options import ImageOptions, Options
    from kzoo.plugins.targets import build_backbone, build_method, open_dataset
    from kzoo.runs.pretrained import load_backbone
    from kzoo.specs import BackboneSpec, DataFacts, DatasetSpec, FormatSpec, MethodSpec, ModalitySpec, PresetSpec

__version__ = "0.1.0"

__all__ = [
    "BackboneError",
    "BackboneSpec",
    "CheckpointError",
    "DataError",
    "DataFacts",
    "DatasetSpec",
    "EvaluationError",
    "ExportError",
    "FormatSpec",
    "ImageOptions",
    "KzooError",
    "Method",
    "MethodSpec",
    "ModalitySpec",
    "Options",
    "OptionsError",
    "PluginError",
    "PresetError",
    "PresetSpec",
    "RecipeError",
    "StrategyError",
    "SurroundingsError",
    "TrainingError",
    "__version__",
    "build_backbone",
    "build_method",
    "hookimpl",
    "load_backbone",
    "open_dataset",
]

_MODULES = {
    "Method": "method",
    "Options": "options",
    "ImageOptions": "options",
    "MethodSpec": "specs",
    "BackboneSpec": "specs",
    "DatasetSpec": "specs",
    "DataFacts": "specs",
    "ModalitySpec": "specs",
    "PresetSpec": "specs",
    "FormatSpec": "specs",
    "hookimpl": "hookspecs",
    "build_method": "plugins.targets",
    "build_backbone": "plugins.targets",
    "open_dataset": "plugins.targets",
    "load_backbone": "runs.pretrained",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'kzoo' has no attribute '{name}'")
    value = getattr(import_module("kzoo." + _MODULES.get(name, "errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


loading.install()
