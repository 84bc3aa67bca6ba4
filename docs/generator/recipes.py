"""The pages of the recipes: all in one table, a page for each folder with their text, and the keys of a recipe."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from generator import ROOT
from generator.markdown import anchor, page, prose, table
from generator.results import best_probe
from kzoo.plugins.describe import option_facts
from kzoo.recipe.header import Outline, outlines
from kzoo.recipe.schema import Recipe, Section

DATA = {
    "": "The first recipe",
    "fashion_mnist": "Clothes, in minutes on a CPU",
    "photos": "Photographs, in minutes on a CPU",
    "python_docs": "Text, in minutes on a CPU",
    "clips": "Video, in minutes on a CPU",
    "pairs": "Stereo pairs, in minutes on a CPU",
}


@cache
def recipes() -> list[Outline]:
    """Every recipe of the checkout, those that train in minutes first."""
    return sorted(
        outlines([ROOT / "recipes"]),
        key=lambda recipe: list(DATA).index(folder(recipe)) if is_small(recipe) else len(DATA),
    )


def key(recipe: Outline) -> str:
    """A recipe as the results name it: "fashion_mnist/simclr"."""
    return recipe.path.relative_to(ROOT / "recipes").with_suffix("").as_posix()


def folder(recipe: Outline) -> str:
    """The folder of `recipes/` that it lies in; "" for none."""
    return key(recipe).rpartition("/")[0]


def is_small(recipe: Outline) -> bool:
    """Whether it trains in minutes on data that comes with packages, and is not a paper's full setting."""
    return folder(recipe) in DATA


def link(recipe: Outline, up: str = "") -> str:
    """A link to the recipe's text. up: from the linking page to the root of the site, "../"."""
    return f"[`{key(recipe)}`]({up}recipes/{folder(recipe) or 'first'}.md#{anchor(recipe.path.stem)})"


def gave(recipe: Outline) -> str:
    """What it gave here, trained / untrained in percent, else the figure of its paper."""
    if probe := best_probe(key(recipe)):
        return probe
    target = recipe.header.get("Target", "")
    return f"published: {target}" if target else ""


def overview() -> str:
    """The page of all recipes."""
    rows = [
        (
            link(recipe),
            f"[`{recipe.method}`](methods/{recipe.method}.md)",
            gave(recipe),
            prose(recipe.header.get("What it costs", "")),
            f"`{recipe.data}`",
            f"`{recipe.backbone}`",
        )
        for recipe in recipes()
    ]
    return page(
        "---\nhide: [toc]\n---",
        "# Recipes",
        "A recipe names a dataset, a backbone, a method and the training settings; [its keys](recipe-keys.md) are few. "
        "Each of these trains with `kzoo train`, takes `--set key=value`, and says in its header what it shows "
        "and costs. `kzoo list recipes` lists those of a checkout. A click on a heading sorts the table. Figures are "
        "trained / untrained.",
        table(("recipe", "method", "what it gave, %", "what it costs", "data", "backbone"), rows),
    )


def folder_pages() -> Iterator[tuple[str, str]]:
    """(file name, text) of a page for each folder, with the recipes as they are."""
    for name in dict.fromkeys(folder(recipe) for recipe in recipes()):
        parts = [f"# {DATA.get(name, f'Published settings: {name}')}"]
        for recipe in (recipe for recipe in recipes() if folder(recipe) == name):
            parts += [f"## {recipe.path.stem}", f"Method [`{recipe.method}`](../methods/{recipe.method}.md)."]
            parts += [command(recipe), f'```yaml title="recipes/{key(recipe)}.yaml"\n{_body(recipe)}\n```']
        yield f"recipes/{name or 'first'}.md", page(*parts)


def command(recipe: Outline) -> str:
    """The recipe's command, as a block to copy."""
    return f"```bash\n{recipe.header['Command']}\n```"


def _body(recipe: Outline) -> str:
    return recipe.path.read_text("utf-8").strip()


def keys_page() -> str:
    """Every key that a recipe may have, section by section."""
    parts = [
        "# The keys of a recipe",
        "An unknown key, a wrong type or a value out of range is refused by line number before anything is imported. "
        "`kzoo train RECIPE --dry-run` says what a recipe comes to, and `recipe.yaml` in a run's folder has every "
        "default written out. `method.options`, `backbone.options` and `data.options` are those of the plugins: "
        "[methods](methods.md), [backbones](backbones.md), [datasets](datasets.md).",
    ]
    for path, model in _sections(Recipe):
        heading = path or "A recipe"
        rows = []
        for name, info in model.model_fields.items():
            below = _section(info.annotation)
            facts = next((fact for fact in option_facts(model) if fact["name"] == name), None)
            if facts is None or below is not None:
                place = ".".join(filter(None, (path, name)))
                default = "required" if info.is_required() else "" if info.default is not None else "`null`"
                rows.append((f"[`{name}`](#{anchor(place)})", default, "section", prose(info.description or "")))
            else:
                default = "required" if facts["required"] else f"`{json.dumps(facts['default'])}`"
                rows.append((f"`{name}`", default, facts["type"], prose(facts["description"])))
        parts += [f"## {heading}", (model.__doc__ or "").strip().splitlines()[0]]
        parts += [table(("key", "default", "type", "what it sets"), rows) or "It has no keys: `{}`."]
    return page(*parts)


def _sections(model: type[Section], path: str = "") -> Iterator[tuple[str, type[Section]]]:
    yield path, model
    for name, info in model.model_fields.items():
        if below := _section(info.annotation):
            yield from _sections(below, ".".join(filter(None, (path, name))))


def _section(annotation: Any) -> type[Section] | None:
    """The section that a field holds, `Section` or `Section | None`; None where it holds a value."""
    choices = get_args(annotation) or (annotation,)
    return next((choice for choice in choices if isinstance(choice, type) and issubclass(choice, Section)), None)
