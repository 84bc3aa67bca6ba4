"""The site: its pages hold what the code, the recipes and the results hold, and every link leads somewhere."""

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

from kzoo import BackboneSpec, DatasetSpec, FormatSpec, MethodSpec, ModalitySpec, PresetSpec, hookspecs
from kzoo.plugins import describe, registry
from kzoo.recipe.header import header, outlines
from kzoo.recipe.schema import Recipe

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs").glob("*.md"))
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?: \"[^\"]*\")?\)")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(generate) -> dict[str, str]:
    """Every page of the site, as it is when mkdocs makes HTML of it."""
    written = {path.name: path.read_text("utf-8") for path in GUIDES}
    return {name: generate.on_page_markdown(text) for name, text in (generate.pages() | written).items()}


def prose_of(text: str) -> str:
    """A page without its blocks of code and its code words, in which brackets are no links."""
    return re.sub(r"`[^`\n]*`", "`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """What links to a page may name after a #."""
    found, seen = set(), {}
    for heading in re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    ):
        if given := re.search(r"\{ #([\w-]+) \}$", heading):
            found.add(given[1])
            continue
        name = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())
        seen[name] = seen.get(name, -1) + 1
        found.add(f"{name}_{seen[name]}" if seen[name] else name)
    return found


def broken(name: str, text: str, site: dict[str, str]) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for link in _LINK.findall(prose_of(text)):
        if "://" in link:
            continue
        target, _, place = link.partition("#")
        parts = (
            [*PurePosixPath(name).parent.parts, *PurePosixPath(target).parts]
            if target
            else list(PurePosixPath(name).parts)
        )
        path = []
        for part in parts:
            path = path[:-1] if part == ".." and path else [*path, part]
        found = "/".join(path)
        if found in site:
            if place and place not in anchors(site[found]):
                wrong.append(link)
        elif place or not (ROOT / "docs" / found).is_file() or found.endswith(".md"):
            wrong.append(link)
    return wrong


def test_every_link_of_the_site_leads_somewhere(site):
    links = {name: broken(name, text, site) for name, text in site.items()}
    assert {name: wrong for name, wrong in links.items() if wrong} == {}
    assert sum(len(_LINK.findall(prose_of(text))) for text in site.values()) > 500


def test_a_link_that_leads_nowhere_is_found():
    site = {"a.md": "# A b", "in/b.md": "## Here"}
    good = "[1](../a.md) [2](../a.md#a-b) [3](#here) [4](https://x.y)"
    assert broken("in/b.md", good, site) == []
    bad = "[1](a.md) [2](../a.md#b) [3](#there) ![4](../assets/none.png) `[5](none.md)`"
    assert broken("in/b.md", bad, site) == ["a.md", "../a.md#b", "#there", "../assets/none.png"]


@pytest.mark.parametrize("page", [*GUIDES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_what_a_guide_links_to_can_be_read_in_the_checkout(page):
    for link in _LINK.findall(prose_of(page.read_text("utf-8"))):
        if "://" not in link and not link.startswith("#"):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_a_link_to_a_file_leads_to_the_page_made_from_it(generate):
    method, recipe = "../plugins/contrastive/src/kzoo_contrastive/simclr.py", "../recipes/photos/mae.yaml"
    text = f"[a]({method}) [b]({recipe}) [c](../recipes) [d](../LICENSE) [e](../tests/no.py)"
    assert generate.on_page_markdown(text) == (
        "[a](methods/simclr.md) [b](recipes/photos.md#mae) [c](recipes.md) d (`LICENSE`) [e](../tests/no.py)"
    )


def test_the_first_page_leads_to_every_method_and_a_method_to_its_recipes(site):
    """From the first page to recipe, command and figure: the table, the method's page, the recipe's text."""
    for spec in registry.methods():
        assert f"(methods/{spec.name}.md)" in site["index.md"]
        assert f"(methods/{spec.name}.md)" in site["methods.md"]
        assert f"](../assets/methods/{spec.name}.webp)" in site[f"methods/{spec.name}.md"]
    for recipe in outlines([ROOT / "recipes"]):
        key = recipe.path.relative_to(ROOT / "recipes").with_suffix("").as_posix()
        page = site[f"methods/{recipe.method}.md"]
        assert f"### {key}\n" in page
        assert f"```bash\nkzoo train recipes/{key}.yaml\n```" in page
        folder, _, name = key.rpartition("/")
        assert f"](../recipes/{folder or 'first'}.md#{name})" in page
        assert f"](recipes/{folder or 'first'}.md#{name})" in site["recipes.md"]
        assert recipe.path.read_text("utf-8").strip() in site[f"recipes/{folder or 'first'}.md"]


def test_the_first_page_and_the_readme_have_the_same_figures(site):
    figures = r"\b\d\d\.\d(?= ?%)"
    readme = (ROOT / "README.md").read_text("utf-8").partition("Trained beside untrained")[2].partition("spread")[0]
    first = site["index.md"].partition("on digits it has not seen")[2].partition("## Methods")[0]
    assert re.findall(figures, first) == re.findall(figures, readme)
    assert len(re.findall(figures, readme)) == 6


def test_a_page_has_what_the_method_and_its_results_have(site):
    """The summary or docstring, all options with their defaults, the papers' figures, every probe."""
    probes = json.loads((ROOT / "benchmarks/results/probe.json").read_text())
    for spec in registry.methods():
        page = site[f"methods/{spec.name}.md"]
        for option in describe.option_facts(spec.options):
            default = "required" if option["required"] else f"`{json.dumps(option['default'])}`"
            assert f"| `{option['name']}` | {default} |".replace("|", "\\|", 0) in page, (spec.name, option["name"])
        for number in re.findall(r"arXiv:(\S+?)(?:[;,]|$)", spec.paper):
            assert f"(https://arxiv.org/abs/{number})" in page
        for heading in ("How it works", "Deviations from the paper", "Options", "Recipes", "What is checked"):
            assert f"\n## {heading}\n" in page
        for result in probes.values():
            if result["method"] == spec.name and result["linear_probe"]:
                assert f"{100 * result['linear_probe']['trained']:.1f}" in page


def test_every_method_has_a_picture_and_all_of_them_are_small():
    pictures = {path.stem: path.stat().st_size for path in (ROOT / "docs/assets/methods").glob("*.webp")}
    names = {spec.name for spec in registry.methods()}
    assert names - set(pictures) == set(), "python docs/pictures.py draws them"
    assert {stem.removesuffix("-predicts") for stem in pictures} <= names
    assert sum(pictures.values()) < 3_000_000


def test_a_page_shows_what_a_run_predicted_or_says_where_a_run_shows_it(site):
    drawn = {path.stem for path in (ROOT / "docs/assets/methods").glob("*-predicts.webp")}
    for spec in registry.methods():
        pictures = re.findall(r"\]\(\.\./assets/methods/(\S+)\.webp\)", site[f"methods/{spec.name}.md"])
        told = "in the run's folder." in site[f"methods/{spec.name}.md"].partition("## How it works")[0]
        assert pictures[1:] == ([f"{spec.name}-predicts"] if f"{spec.name}-predicts" in drawn else [])
        assert told == (len(pictures) == 1)
    assert "`figures/answers.png`" not in site["methods/i_jepa.md"]  # it predicts embeddings, which nobody can see


def test_the_page_of_keys_has_every_key_of_a_recipe(site):
    page = site["recipe-keys.md"]
    for path in ("data", "data.labels", "optimizer", "train.checkpoint", "evaluate.knn", "export"):
        assert f"\n## {path}\n" in page
    for name in (*Recipe.model_fields, "clip_norm", "every_minutes", "low_shot"):
        assert re.search(rf"^\| \[?`{name}`", page, re.MULTILINE), name


def test_backbones_and_datasets_are_listed_with_all_options(site):
    for page, specs in (("backbones.md", registry.backbones()), ("datasets.md", registry.datasets())):
        sections = dict(part.split("\n", 1) for part in site[page].split("\n## ")[1:])
        assert [section.split("`")[1] for section in sections] == [spec.name for spec in specs]
        for spec, section in zip(specs, sections.values(), strict=True):
            assert spec.summary.replace("<", "&lt;") in section
            for option in describe.option_facts(spec.options):
                assert f"| `{option['name']}` |" in section


def test_presets_are_listed_with_their_figures(site):
    assert [spec.name for spec in registry.presets()] == re.findall(r"^\| `(\S+)` \|", site["presets.md"], re.MULTILINE)
    for spec in registry.presets():
        probe = spec.figures["verdict"]["linear_probe"]
        assert re.search(rf"{100 * probe['trained']:.1f}\**? / {100 * probe['untrained']:.1f}", site["presets.md"])


def test_the_page_of_the_suite_has_every_check(site):
    sources = [path.read_text() for path in (ROOT / "kzoo/testing").rglob("*.py")]
    checks = re.findall(r"^    check_(\w+),$", "".join(sources), re.MULTILINE)
    assert len(checks) > 20
    for check in checks:
        assert re.search(rf"^\| `{check}` \| \S", site["checks.md"], re.MULTILINE), check


def test_the_page_of_hooks_has_every_hook_and_every_field(generate):
    page = generate.reference.hooks_page()
    hooks = [name for name in vars(hookspecs) if name.startswith("kzoo_")]
    assert len(hooks) == 8
    for name in hooks:
        assert f"## {name}\n" in page
    for record in (MethodSpec, BackboneSpec, DatasetSpec, ModalitySpec, PresetSpec, FormatSpec):
        section = page.split(f"## kzoo.{record.__name__}\n")[1].split("\n## ")[0]
        told = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", section, re.MULTILINE))
        assert list(told) == [field.name for field in fields(record)]
        assert all(told.values())


def test_the_page_of_results_has_a_row_for_every_probe(generate):
    found = generate.results.measured("probe")
    page = generate.on_page_markdown((ROOT / "docs/results.md").read_text())
    probes = page.partition("## Few labels")[0]  # which has a table of its own
    rows = [line.split(" | ") for line in probes.splitlines() if line.startswith("| [`")]
    assert [row[0].split("`")[1] for row in rows] == [result["method"] for result in found.values()]
    assert all("/" in row[2] for row in rows)
    assert '"table' not in page


def test_a_header_is_read_heading_by_heading_to_the_first_key():
    text = "# What it shows: a: b\n#                c\n# Command:       kzoo train x\nkzoo: 1\n# Not: this\n"
    assert header(text) == {"What it shows": "a: b c", "Command": "kzoo train x"}
    assert header("kzoo: 1\n# What it shows: no") == {}


def test_the_pages_are_made_without_tensorflow():
    script = (
        "import sys; sys.path.insert(0, 'docs'); import generate; generate.pages(); print('tensorflow' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


def test_the_readme_names_every_method_and_dataset():
    text = (ROOT / "README.md").read_text("utf-8")
    names = [spec.name for spec in (*registry.methods(), *registry.datasets())]
    assert not [name for name in names if f"`{name}`" not in text and f"`{name}:<" not in text]
