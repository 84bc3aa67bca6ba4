"""The recipes that lie below the folder where a command is typed, for `kzoo list recipes` and `kzoo show`."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from kzoo.plugins.describe import plain_table
from kzoo.recipe.header import Outline, outlines

FOLDER = "recipes"


def here(pattern: str = "*") -> list[Outline]:
    """The recipes in ./recipes, and in that folder of a plugin, ./kzoo-mine/recipes.

    pattern: a wildcard that the name, the method or the path matches, without ./recipes and .yaml: "photos/*".
    """
    found = outlines([folder for folder in (Path(FOLDER), *sorted(Path().glob(f"*/{FOLDER}"))) if folder.is_dir()])
    return [recipe for recipe in found if any(fnmatchcase(name, pattern) for name in names(recipe))]


def names(recipe: Outline) -> tuple[str, ...]:
    """What a recipe can be asked for by: its path, that without the folder, its name, its method."""
    short = recipe.path.with_suffix("").as_posix().removeprefix(f"{FOLDER}/")
    return recipe.path.as_posix(), short, recipe.name, recipe.method


def listed(pattern: str = "*") -> list[dict[str, Any]]:
    """The recipes as plain data."""
    return [facts(recipe) for recipe in here(pattern)]


def facts(recipe: Outline) -> dict[str, Any]:
    """A recipe as plain data, with its header."""
    return {
        "kind": "recipe",
        "recipe": recipe.path.as_posix(),
        "name": recipe.name,
        "method": recipe.method,
        "data": recipe.data,
        "backbone": recipe.backbone,
        "summary": recipe.header.get("What it shows", ""),
        "header": recipe.header,
    }


def print_recipe(console: Console, recipe: Outline) -> None:
    """Print what a recipe says of itself."""
    console.print(f"[bold]{escape(recipe.name)}[/], a recipe: {escape(recipe.path.as_posix())}", soft_wrap=True)
    grid = plain_table()
    for key, value in {"method": recipe.method, "data": recipe.data, "backbone": recipe.backbone}.items():
        grid.add_row(f"[dim]{key}[/]", escape(value))
    for heading, text in recipe.header.items():
        grid.add_row(f"[dim]{escape(heading[:1].lower() + heading[1:])}[/]", escape(text))
    console.print(grid)
