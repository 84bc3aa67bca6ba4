"""What the commands are called with, checked before anything heavy is imported."""

from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from kzoo.errors import RecipeError
from kzoo.plugins import registry


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
    registry.validate_options(spec, options)
    return options
