"""What a shell completes: names that are installed, recipes, words of `kzoo list`. Without TensorFlow.

An error here would end up in the line that someone is typing: whatever goes wrong, nothing is offered.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from glob import escape, glob
from pathlib import Path


def _quietly(offer: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    @wraps(offer)
    def complete(incomplete: str) -> list[str]:
        try:
            return [name for name in offer() if name.startswith(incomplete)]
        except Exception:
            return []

    complete.__annotations__ = {"incomplete": str}  # by which Typer knows what to pass
    del complete.__wrapped__
    return complete


@_quietly
def checkable() -> Iterable[str]:
    """For `kzoo check`."""
    from kzoo.plugins import registry

    return [spec.name for kind in (registry.methods, registry.backbones, registry.presets) for spec in kind()]


@_quietly
def datasets() -> Iterable[str]:
    """For `kzoo embed`: whole names, and prefixes up to their colon."""
    from kzoo.plugins import registry

    return [spec.name.partition("<")[0] for spec in registry.datasets()]


@_quietly
def anything() -> Iterable[str]:
    """For `kzoo show`: methods, backbones, presets, datasets, recipes."""
    from kzoo.plugins import registry

    return [*checkable(""), *(spec.name for spec in registry.datasets()), *_below()]


def recipes(incomplete: str) -> list[str]:
    """For `kzoo train`: folders and YAML files, as any path is completed, and the recipes below ./recipes."""
    found = [Path(path) for path in glob(f"{escape(incomplete)}*")]
    paths = [f"{path}/" for path in found if path.is_dir()] + [str(path) for path in found if path.suffix == ".yaml"]
    return list(dict.fromkeys([*paths, *(path for path in _below() if path.startswith(incomplete))]))


def _below() -> list[str]:
    return [path.as_posix() for path in sorted(Path("recipes").rglob("*.yaml"))]
