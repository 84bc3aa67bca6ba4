"""A page for each method, and the overview of all."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from generator import ROOT, recipes, results, source
from generator.markdown import linked_papers, page, prose, table
from kzoo.plugins import describe, registry
from kzoo.recipe.header import Outline
from kzoo.specs import MethodSpec

PICTURES = ROOT / "docs" / "assets" / "methods"
_DEVIATIONS = re.compile(r"(?:Deviations?|Not in the paper)\b[^:.`]*:\s*")


def overview_table(up: str = "") -> str:
    """All methods; the site sorts it by a click on a heading."""
    rows = []
    for spec in sorted(registry.methods(), key=lambda spec: (spec.modality != "image", spec.family, spec.name)):
        own = [recipe for recipe in recipes.recipes() if recipe.method == spec.name]
        probes = (probe for recipe in own for probe in results.probes_of(recipes.key(recipe)))
        _, linear, knn, *_ = next(probes, ("", "", ""))
        paper = linked_papers(" ".join(re.findall(r"arXiv:\S+[^\s;]", spec.paper)[:1])) or spec.paper
        rows.append((f"[`{spec.name}`]({up}methods/{spec.name}.md)", spec.family, spec.modality, prose(spec.summary)))
        rows[-1] += (linear, knn, paper)
    return table(("method", "family", "data", "what it does", "linear probe, %", "kNN, %", "paper"), rows)


def overview() -> str:
    """The page of all methods."""
    return page(
        "---\nhide: [toc]\n---",
        "# Methods",
        "Each has a page: the idea, its options, its recipes and what they gave, what differs from its paper, what is "
        "checked. A click on a heading sorts the table. The figures are those of its first recipe that was probed "
        "here, after five minutes on a CPU: trained / untrained; [Results](results.md) has all of them, and says what "
        "they are worth.",
        overview_table(),
    )


def method_pages() -> Iterator[tuple[str, str]]:
    """(file name, text) of the page of each method."""
    for spec in registry.methods():
        yield f"methods/{spec.name}.md", method_page(spec)


def method_page(spec: MethodSpec) -> str:
    """All that is known of a method."""
    idea, more, deviations = _told(spec)
    own = [recipe for recipe in recipes.recipes() if recipe.method == spec.name]
    own.sort(key=lambda recipe: not recipes.is_small(recipe))
    return page(
        f"# {spec.name}",
        f"{prose(idea)}" if idea else f"{prose(spec.summary)}.",
        *_pictures(spec),
        _facts(spec),
        "## How it works",
        *more,
        "## Deviations from the paper",
        deviations or "Its docstring names none.",
        "## Options",
        options_table(spec) or "It has no options.",
        *_recipes(own),
        *_published(own),
        "## What is checked",
        *_checked(spec, own),
    )


def options_table(spec: MethodSpec) -> str:
    """The options of a method, a backbone or a dataset, with their defaults."""
    rows = []
    for row in describe.option_facts(spec.options):
        default = "required" if row["required"] else f"`{json.dumps(row['default'])}`"
        rows.append((f"`{row['name']}`", default, row["type"], prose(row["description"])))
    return table(("option", "default", "type", "what it sets"), rows)


def _told(spec: MethodSpec) -> tuple[str, list[str], str]:
    """The docstring's first paragraph, the others as Markdown, and what it says of deviations."""
    paragraphs = [" ".join(part.split()) for part in source.docstring(spec.target).split("\n\n")]
    idea, *others = paragraphs
    more, deviations = [], []
    for text in others:
        before, *after = _DEVIATIONS.split(text, maxsplit=1)
        if before.strip():
            more.append(prose(before.strip()))
        for found in after:
            deviations += [prose(item.strip()) for item in found.rstrip(".").split("; ")]
    return idea, more, "\n".join(f"- {item[0].upper()}{item[1:]}." for item in deviations)


def _pictures(spec: MethodSpec) -> Iterator[str]:
    """What the pretext shows, and what a real run predicted: else where a run shows what was learnt."""
    yield f"![What the pretext of {spec.name} shows the model](../assets/methods/{spec.name}.webp)"
    if (PICTURES / f"{spec.name}-predicts.webp").exists():
        what = {"image": " on pictures", "video": " on real clips", "stereo": " on a real pair"}.get(spec.modality, "")
        told = f"What {spec.name} predicts after a short training{what}"
        yield f"![{told}](../assets/methods/{spec.name}-predicts.webp)"
    elif source.defines(spec.target, "visualise"):
        yield "What it predicts, each run of it draws: `figures/answers.png` in the run's folder."
    else:
        yield (
            "What it predicts is no picture. A run shows what was learnt by where the embedding puts the examples, and "
            "by what is near to what: `figures/embedding.png` and `figures/neighbours.png` in the run's folder."
        )


def _facts(spec: MethodSpec) -> str:
    known = describe.facts(spec)
    module = spec.target.partition(":")[0]
    found = sorted(ROOT.glob(f"plugins/*/src/{module.replace('.', '/')}.py"))
    rows = {
        "paper": linked_papers(spec.paper),
        "family": spec.family,
        "data": spec.modality,
        "needs of a backbone": ", ".join(spec.requires),
        "offers beside it": ", ".join(spec.offers),
        "channels": " or ".join(map(str, spec.channels)),
        "learns from": "labels" if spec.labels else "",
        "distribution": known["distribution"],
        "source": f"`{found[0].relative_to(ROOT)}`" if found else f"`{module}`",
    }
    return "\n".join(f"- **{name}**: {value}" for name, value in rows.items() if value)


def _recipes(own: list[Outline]) -> Iterator[str]:
    yield "## Recipes"
    if not own:
        yield "None comes with kzoo."
    for recipe in own:
        yield f"### {recipes.key(recipe)}"
        yield prose(recipe.header.get("What it shows", ""))
        yield recipes.command(recipe)
        yield f"Cost: {prose(recipe.header.get('What it costs', ''))} The text: {recipes.link(recipe, '../')}."
        rows = list(results.probes_of(recipes.key(recipe)))
        head = ("settings", "linear probe, %", "kNN, %", "its own task, beside no learning", "after")
        if rows:
            yield "What it gave, trained / untrained (bold: better by more than twice the standard error):"
            yield table(head, rows)
    if own and (labels := results.labels(own[0].method)):
        yield "### Few labels"
        yield "Few labels of 10,000 images of clothing, 1,000 steps; [more](../results.md#few-labels)."
        yield labels


def _published(own: list[Outline]) -> Iterator[str]:
    rows = []
    for recipe in own:
        if not recipes.is_small(recipe):
            header = recipe.header
            target = header.get("Target") or header["What it shows"]
            differs = header.get("Differs from the authors' script", "")
            rows.append((recipes.link(recipe, "../"), *map(prose, (target, header.get("Source", ""), differs))))
    if rows:
        yield "## Published figures"
        yield "The recipes have the published settings; these figures are the papers' own and were not reproduced here."
        yield table(("recipe", "figure", "source", "differs from the authors' script"), rows)


def _checked(spec: MethodSpec, own: list[Outline]) -> Iterator[str]:
    lines = [f"`kzoo check {spec.name}` runs [the conformance suite](../checks.md) on it."]
    for check, reason in spec.expected_failures.items():
        lines.append(f"It knowingly does not pass `{check}`: {prose(reason)}.")
    gap = results.replicas_of(spec.name)
    lines.append(f"**Replicas**: {gap or 'by the suite, two replicas beside one device, at most 1e-5'}.")
    lines.append("**Resume**: stopped and resumed, it ends as if it had not been stopped, to the last bit.")
    lines.append(
        "**XLA**: " + ("the step compiles, with the same result." if spec.xla else "its step cannot be compiled.")
    )
    names = ["`serving_default`", *(["`serve_bytes`"] if spec.modality == "image" else [])]
    names += [f"`{name}`" for name in source.signatures(spec.target)]
    lines.append(f"**Export**: {', '.join(names)}; [what they take and return](../exports.md).")
    yield "\n".join(f"- {line}" for line in lines)
    if starts := results.starts_of([recipes.key(recipe) for recipe in own]):
        yield "Where its published recipes begin, on random images, beside the closed form:"
        yield starts
    for path in _tests(spec):
        said = source.tests(path)
        listed = "\n".join(f"    - {prose(line)}" for line in said)
        yield f'??? note "`{path.relative_to(ROOT)}`: {len(said)} tests of values and invariances"\n\n{listed}'


def _tests(spec: MethodSpec) -> list[Path]:
    """The test files of a method: that of its name, else those of its plugin that name it."""
    folders = {path.parents[2] for path in ROOT.glob(f"plugins/*/src/{spec.target.partition('.')[0]}/plugin.py")}
    files = [path for folder in folders for path in sorted((folder / "tests").glob("test_*.py"))]
    own = [path for path in files if path.stem == f"test_{spec.name}"]
    return own or [path for path in files if f'"{spec.name}"' in path.read_text("utf-8")]
