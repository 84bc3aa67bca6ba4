"""Keras finds the classes of every installed plugin when it loads a file, without anybody importing them first.

A saved model names its classes "package>Class", and Keras knows those that some import has registered. Once kzoo is
imported, a name that Keras does not know makes the plugin of that package load its code. Nothing is imported before.
"""

import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_KERAS = "keras.src.saving.serialization_lib"  # no public name leads to where Keras looks names up
_OWN = ("kzoo.layers", "kzoo.optimizers", "kzoo.color", "kzoo.patches")  # what kzoo itself registers


def install() -> None:
    """Extend Keras; at once where it is imported already, else as soon as it is."""
    if _KERAS in sys.modules:
        _extend(sys.modules[_KERAS])
    else:
        sys.meta_path.insert(0, _AfterImport())  # type: ignore[arg-type]


class _AfterImport:
    """Extends Keras right after the module that loads objects has run; finds no other module."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != _KERAS:
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        spec = PathFinder.find_spec(name, path)
        loader: Any = spec and spec.loader
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _extend(module)

            loader.exec_module = exec_module
        return spec


def _extend(keras: Any) -> None:
    """Let Keras ask the plugins for names that it does not know."""
    registry = keras.object_registration
    look_up, load = registry.get_registered_object, keras.deserialize_keras_object

    @functools.wraps(look_up)
    def get_registered_object(name: Any, custom_objects: Any = None, module_objects: Any = None) -> Any:
        found = look_up(name, custom_objects, module_objects)
        if found is None and isinstance(name, str) and ">" in name:
            for importing in _importers(name.partition(">")[0]):
                importing()
                found = look_up(name)
                if found is not None:
                    break
        return found

    @functools.wraps(load)
    def deserialize_keras_object(config: Any, custom_objects: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(config, Mapping):  # initialisers, optimizers and the like are looked up in Keras' own tables only
            get_registered_object(config.get("registered_name"), custom_objects)
        return load(config, custom_objects, *args, **kwargs)

    registry.get_registered_object = get_registered_object
    keras.deserialize_keras_object = deserialize_keras_object


def _importers(package: str) -> Iterator[Any]:
    """What to import, one after the other, until a name of this package is registered.

    First what the plugin of this package brings. Then all else, since plugins may take layers from another library;
    what cannot be imported there has no part in it. Raises PluginError where the plugin of this package is broken,
    switched off, or cannot be imported.
    """
    from kzoo.errors import PluginError
    from kzoo.plugins import targets
    from kzoo.plugins.load import load_plugins

    if package == "kzoo":
        yield from (functools.partial(import_module, module) for module in _OWN)
        return
    plugins = load_plugins()
    for record in plugins.records:
        if not record.ok and record.module.partition(".")[0] == package:
            raise PluginError(
                f"the file holds a model of {record.title}, which cannot be used: {record.problem}"
                + (f"; {record.remedy}" if record.remedy else "")
            )
    provided = [one for kind in ("method", "backbone") for one in plugins.provided[kind]]  # type: ignore[index]
    owned = [one for one in provided if package in (_top(one.spec.target), _top(one.plugin.module))]
    yield from (functools.partial(targets.resolve, one.spec) for one in owned)
    yield from (functools.partial(_attempt, one.spec) for one in provided if one not in owned)


def _attempt(spec: Any) -> None:
    from kzoo.errors import PluginError
    from kzoo.plugins import targets

    with suppress(PluginError):
        targets.resolve(spec)


def _top(name: str) -> str:
    return name.partition(":")[0].partition(".")[0]
