"""What the commands are called with, checked before anything heavy is imported."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from kzoo.errors import RecipeError
from kzoo.plugins import registry, targets


def require_run(folder: Path) -> None:
    """Raises RecipeError where the folder is none of a run."""
    if not (folder / "recipe.yaml").is_file():
        raise RecipeError(f"{folder}: no run; name a folder that `kzoo train` made, such as runs/quickstart")


def require_export(folder: Path) -> None:
    """Raises RecipeError where there is no such folder; what lies in it is for its reader to say."""
    if not folder.is_dir():
        raise RecipeError(f"{folder}: no such folder; name one that `kzoo export` made, such as RUN/exports/NAME")


def dataset_options(data: str, given: Iterable[str]) -> dict[str, Any]:
    """The options of a dataset from `KEY=VALUE`, the values read as YAML.

    Raises PluginError (no such dataset), RecipeError or OptionsError.
    """
    spec, options = registry.find_dataset(data), {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals:
            raise RecipeError(f"--set {one}: expected KEY=VALUE; `kzoo show {data.partition(':')[0]}` lists the keys")
        try:
            options[key] = YAML(typ="safe", pure=True).load(value)
        except YAMLError:
            raise RecipeError(f"--set {one}: the value is not YAML; put it into quotes") from None
    targets.validate_options(spec, options)
    return options
