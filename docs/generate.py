"""Writes the pages that say what the code says already: hooks and records, the public names, every plugin's options.

mkdocs calls it while it builds, so the pages are never stale and are nobody's to edit. Nothing here imports TensorFlow.
"""

import ast
import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import kzoo
from kzoo import hookspecs
from kzoo.plugins import describe, registry
from kzoo.specs import BackboneSpec, DatasetSpec, MethodSpec, ModalitySpec, Spec

# What a plugin may import. Of a module without __all__, every name it defines that has no leading underscore.
PUBLIC = (
    "kzoo",
    "kzoo.method",
    "kzoo.options",
    "kzoo.specs",
    "kzoo.modality",
    "kzoo.random",
    "kzoo.augment",
    "kzoo.color",
    "kzoo.layers",
    "kzoo.patches",
    "kzoo.losses",
    "kzoo.replicas",
    "kzoo.state",
    "kzoo.schedules",
    "kzoo.data",
    "kzoo.evaluate",
    "kzoo.errors",
    "kzoo.testing",
)

PROBES = Path(__file__).parents[1] / "benchmarks" / "results" / "probe.json"


def on_files(files: Any, config: Any) -> Any:
    """mkdocs' event: add the pages to those that lie in the folder."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs' event: put the tables of the probes where a page says `[probes: <dataset>]`."""
    return re.sub(r"^\[probes: (\w+)\]$", lambda found: probes_table(found[1]), markdown, flags=re.MULTILINE)


# A figure of the pretext on held-out examples, and what it is compared with: the first pair that a method has.
TASKS = (
    ("word_accuracy", "own", "unigram_accuracy"),
    ("accuracy", "own", "unigram_accuracy"),
    ("accuracy", "chance", "accuracy"),
    ("ranking", "chance", "ranking"),
    ("loss", "held_out", "marginal_loss"),
    ("loss", "held_out", "prior_loss"),
    ("reconstruction", "held_out", "variance"),
    ("loss", "held_out", "variance"),
    ("information", "chance", "information"),
)


def probes_table(dataset: str) -> str:
    """What `benchmarks/probe.py` found for the recipes of a dataset."""
    rows = []
    for name, result in json.loads(PROBES.read_text("utf-8")).items():
        if name.startswith(f"{dataset}/"):
            verdicts = [_beside(result[probe]) for probe in ("linear_probe", "knn")]
            method = ", ".join(f"`{part}`" for part in (result["method"], *result.get("overrides", [])))
            rows.append((method, f"`{result['backbone']}`", *verdicts, _task(result["pretext"])))
    return _table(("method", "backbone", "linear probe, %", "kNN, %", "its own task, beside no learning"), rows)


def _beside(verdict: dict[str, Any] | None) -> str:
    """Trained / untrained, in percent; bold where the difference is beyond noise."""
    if verdict is None:
        return ""
    trained = f"{100 * verdict['trained']:.1f}"
    better = verdict["says"] == "better than untrained"
    return f"{f'**{trained}**' if better else trained} / {100 * verdict['untrained']:.1f}"


def _task(pretext: dict[str, dict[str, float]]) -> str:
    for figure, where, other in TASKS:
        if figure in pretext["held_out"] and other in pretext[where]:
            reached, without = pretext["held_out"][figure], pretext[where][other]
            share = figure.endswith(("accuracy", "ranking"))
            told = [f"{100 * value:.1f} %" if share else f"{value:.3g}" for value in (reached, without)]
            return " ".join((figure.replace("_", " "), " / ".join(told)))
    if "accuracy" in pretext["held_out"]:  # of SimCLR and its like, where chance is the batch's matter
        return f"accuracy {100 * pretext['held_out']['accuracy']:.1f} %"
    return ""


def pages() -> dict[str, str]:
    """Each page's file name and its text, in Markdown."""
    return {
        "api.md": api_page(),
        "hooks.md": hooks_page(),
        "methods.md": specs_page("Methods", registry.methods()),
        "backbones.md": specs_page("Backbones", registry.backbones()),
        "datasets.md": specs_page("Datasets", registry.datasets()),
    }


def hooks_page() -> str:
    """The hooks with what they say of themselves, and the fields of the records they yield."""
    parts = [
        "# Hooks",
        "A plugin is a module with functions of these names, marked `@kzoo.hookimpl`, and an entry point in the group "
        "`kzoo` that names the module. It implements those it needs, and may leave out arguments that it does not use. "
        "Arguments and fields are only ever added.",
    ]
    for name, function in vars(hookspecs).items():
        if name.startswith("kzoo_"):
            parts += [f"## {name}", f"```text\n{_signature(name, function)}\n```", inspect.getdoc(function) or ""]
    for record in (MethodSpec, BackboneSpec, DatasetSpec, ModalitySpec):
        told = _field_descriptions(MethodSpec) | _field_descriptions(record)
        rows = [
            (f"`{field.name}`", f"`{_annotation(field.type)}`", _default(field), told[field.name])
            for field in dataclasses.fields(record)
        ]
        first = (inspect.getdoc(record) or "").splitlines()[0]
        parts += [f"## kzoo.{record.__name__}", first, _table(("field", "type", "default", "what it says"), rows)]
    return "\n\n".join(parts) + "\n"


def api_page() -> str:
    """The public names, module by module, and the members of `kzoo.Method`."""
    parts = [
        "# API",
        "These are the names that a plugin may rely on, as [Stability](stability.md) says. `help(name)` in Python has "
        "each in full: shapes, units, value ranges, what it raises.",
    ]
    for module in PUBLIC:
        rows = [(f"`{name}`", told) for name, told in public_names(module).items()]
        parts += [
            f"## {module}",
            _paragraph(ast.get_docstring(_tree(module)) or ""),
            _table(("name", "what it is"), rows),
        ]
        if module == "kzoo.method":
            rows = [(f"`{name}`", told) for name, told in _members(_tree(module), "Method")]
            parts += ["### The members of `kzoo.Method`", _table(("name", "what it is"), rows)]
    return "\n\n".join(parts) + "\n"


_FACTS = (
    "paper",
    "modality",
    "requires",
    "offers",
    "abilities",
    "channels",
    "min_size",
    "splits",
    "classes",
    "source",
    "licence",
)


def specs_page(title: str, specs: Sequence[Spec]) -> str:
    """Every method, backbone or dataset: what it is, and its options."""
    parts = [f"# {title}"]
    for spec in specs:
        known = describe.facts(spec)
        lines = [
            f"**{key}:** {_plain(value)}"
            for key in (
                "paper",
                "modality",
                "requires",
                "offers",
                "abilities",
                "channels",
                "min_size",
                "splits",
                "classes",
                "source",
            )
            if (value := known.get(key))
        ]
        options = describe.option_facts(spec.options)
        rows = [
            (
                f"`{row['name']}`",
                "required" if row["required"] else f"`{json.dumps(row['default'])}`",
                row["type"],
                row["description"],
            )
            for row in options
        ]
        table = _table(("option", "default", "type", "what it sets"), rows) if rows else "It has no options."
        origin = f"From {known['distribution']}."
        parts += [f"## {spec.name}", f"{spec.summary}. {origin}", "  \n".join(lines), table]
    return "\n\n".join(parts) + "\n"


def public_names(module: str) -> dict[str, str]:
    """The public names of a module of `PUBLIC`, each with the first sentence of its docstring."""
    tree = _tree(module)
    listed = next((ast.literal_eval(value) for name, value in _assigned(tree) if name == "__all__"), None)
    defined = dict(_definitions(tree))
    if listed is None:
        return {name: told for name, told in defined.items() if not name.startswith("_")}
    return {name: defined.get(name) or _imported(tree, name) for name in listed}


def _definitions(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, _paragraph(ast.get_docstring(node) or "")
    for name, value in _assigned(tree):
        yield name, f"`{ast.unparse(value)}`"


def _members(tree: ast.Module, owner: str) -> Iterator[tuple[str, str]]:
    [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner]
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            is_property = any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)
            taken = [argument.arg for argument in node.args.args + node.args.kwonlyargs]
            arguments = "" if is_property else f"({', '.join(name for name in taken if name not in ('self', 'cls'))})"
            if told := _paragraph(ast.get_docstring(node) or ""):
                yield node.name + arguments, told


def _imported(tree: ast.Module, name: str) -> str:
    """What the module says of a name that another takes from it, in an import or an `import ... if TYPE_CHECKING`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            return dict(_definitions(_tree(node.module))).get(name, "")
    return ""


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _tree(module: str) -> ast.Module:
    path = Path(kzoo.__file__).parent.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text("utf-8"))


def _field_descriptions(record: type) -> dict[str, str]:
    """What a record's docstring says of each field: "name: text" up to the next field's name."""
    names = "|".join(field.name for field in dataclasses.fields(record))
    told = re.split(rf"(?:^|(?<=[.;] ))({names}): ", " ".join((inspect.getdoc(record) or "").split()))
    return {name: text.strip().rstrip(".") for name, text in zip(told[1::2], told[2::2], strict=True)}


def _signature(name: str, function: FunctionType) -> str:
    arguments = ", ".join(inspect.signature(function).parameters)
    return f"{name}({arguments}) -> {_annotation(function.__annotations__['return'])}"


def _annotation(annotation: Any) -> str:
    """A type without the modules it lives in."""
    return re.sub(r"\b(\w+\.)+(?=\w)", "", inspect.formatannotation(annotation))


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    return "required" if field.default_factory is dataclasses.MISSING else f"`{field.default_factory()!r}`"


def _paragraph(text: str) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join(text.partition("\n\n")[0].split())


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
