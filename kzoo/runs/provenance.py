"""What a file was made from. What is derived from a training says so, and is believed only where it holds."""

import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from kzoo.plugins.load import load_plugins
from kzoo.system.files import sha256


@dataclass(frozen=True)
class Origin:
    """The state of a training.

    step: optimizer steps made. recipe_hash: of its recipe, see `kzoo.recipe.schema.recipe_hash`.
    data: digest of the split it trained on; "" where that is not known. status: "trained" once all steps are made.
    """

    step: int
    recipe_hash: str
    data: str
    status: str = "trained"

    def of(self, path: Path) -> dict[str, Any]:
        """What to write down about a file that was made from it."""
        return {"sha256": sha256(path), **asdict(self)}

    def holds(self, path: Path, written: Any) -> bool:
        """Whether a file is, to the last bit, the one that was made from it, by what was written down then."""
        return path.is_file() and written == self.of(path)


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    names = ("kzoo", "keras", "tensorflow", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def plugin_versions() -> dict[str, str]:
    """Distribution and version of every plugin in use."""
    return {plugin.distribution: plugin.version for plugin in load_plugins().records if plugin.ok}
