"""mkdocs' hook: adds the pages that are made from the code, the recipes and the measured figures, and lets guides link
to files of the checkout: on the site, such a link leads to the page that is made from the file.

    [Options](../plugins)                                           a page, where there is one; else the file's name
    [All methods](../plugins "table")                               on a line of its own: the table itself
    [Figures](../benchmarks/results/probe.json "table: photos")     one with an argument
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from generator import ROOT, checks, methods, recipes, reference, results

from kzoo.plugins import registry

PAGES = {
    "plugins": "methods.md",
    "plugins/backbones": "backbones.md",
    "plugins/samples": "datasets.md",
    "plugins/presets": "presets.md",
    "recipes": "recipes.md",
    "kzoo/recipe/schema.py": "recipe-keys.md",
    "kzoo/hookspecs.py": "hooks.md",
    "kzoo/__init__.py": "api.md",
    "kzoo/testing": "checks.md",
}
TABLES: dict[str, Callable[..., str]] = {
    "plugins": methods.overview_table,
    "benchmarks/results/probe.json": results.probes,
    "benchmarks/results/peers_replicas.json": results.peers_on_two_processes,
    "benchmarks/results/oracles.json": results.oracles,
    "benchmarks/results/labels.json": results.labels,
    "benchmarks/results/temporal.json": results.temporal,
    "benchmarks/results/formats.json": results.formats,
    "benchmarks/results/use.json": results.uses,
}


def on_files(files: Any, config: Any) -> Any:
    """mkdocs' event: add the pages to those that lie in the folder."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs' event: tables in the place of links to what they are made from, and pages in that of files."""
    with_tables = re.sub(r'^\[[^\]]*\]\(\.\./([^)\s]+) "table(?:: (\w+))?"\)$', _table, markdown, flags=re.MULTILINE)
    return re.sub(r"\[([^\]]*)\]\(\.\./((?!assets/)[^)\s]+)\)", _page, with_tables)


def _table(found: re.Match[str]) -> str:
    return TABLES[found[1]](*filter(None, found.groups()[1:]))


def _page(found: re.Match[str]) -> str:
    text, (file, _, place) = found[1], found[2].partition("#")
    if target := page_of(file):
        return f"[{text}]({target}{'#' * bool(place)}{place})"
    if not (ROOT / file).exists():
        return found[0]  # a link between pages, which mkdocs checks
    return text if "`" in text or text == file else f"{text} (`{file}`)"


def page_of(file: str) -> str:
    """The page that is made from a file or folder of the checkout; "" where there is none."""
    if file.startswith("recipes/") and file.endswith(".yaml"):
        folder, _, name = file.removeprefix("recipes/").removesuffix(".yaml").rpartition("/")
        return f"recipes/{folder or 'first'}.md#{name}"
    if found := re.fullmatch(r"plugins/[\w-]+/src/(\w+)/(\w+)\.py", file):
        module = f"{found[1]}.{found[2]}"
        return next(
            (f"methods/{spec.name}.md" for spec in registry.methods() if spec.target.startswith(f"{module}:")), ""
        )
    return PAGES.get(file, "")


def pages() -> dict[str, str]:
    """Each page's file name and its text, in Markdown."""
    return {
        "methods.md": methods.overview(),
        **dict(methods.method_pages()),
        "recipes.md": recipes.overview(),
        **dict(recipes.folder_pages()),
        "recipe-keys.md": recipes.keys_page(),
        "backbones.md": reference.specs_page("Backbones", registry.backbones()),
        "datasets.md": reference.specs_page("Datasets", registry.datasets()),
        "presets.md": reference.presets_page(),
        "checks.md": checks.checks_page(),
        "hooks.md": reference.hooks_page(),
        "api.md": reference.api_page(),
    }
