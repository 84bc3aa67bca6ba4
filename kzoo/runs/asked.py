"""What `kzoo evaluate RUN --set` asks of a finished run. Without TensorFlow."""

from collections.abc import Sequence
from pathlib import Path

from kzoo.errors import RecipeError
from kzoo.recipe.load import load
from kzoo.recipe.schema import Recipe


def asked_otherwise(folder: Path, overrides: Sequence[str]) -> Recipe:
    """The recipe of a run with another section `evaluate`. Raises RecipeError where anything else would change."""
    for override in overrides:
        if not override.startswith(("evaluate.", "evaluate=")):
            raise RecipeError(
                f"--set {override}: a finished run is only asked otherwise, by evaluate.KEY=VALUE; train anew for more"
            )
    return load(folder / "recipe.yaml", overrides)
