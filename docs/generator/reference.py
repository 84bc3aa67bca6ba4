"""The pages of what the code names: hooks and records, the public names, backbones and datasets with their options."""

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

from generator import results
from generator.markdown import anchor, linked_papers, page, paragraph, plain, prose, table
from generator.methods import options_table
from generator.source import parsed
from kzoo import hookspecs
from kzoo.plugins import describe, registry
from kzoo.specs import BackboneSpec, DatasetSpec, FormatSpec, MethodSpec, ModalitySpec, PresetSpec

# What a plugin may import. Of a module without __all__, every name it defines that has no leading underscore.
PUBLIC = (
    "kzoo",
    "kzoo.method",
    "kzoo.options",
    "kzoo.specs",
    "kzoo.presets",
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
    "kzoo.testing.fakes",
)


_RULES = """\
- A plugin implements the hooks that it needs, and leaves out arguments that it does not use.
- A hook yields records, frozen and light: they name their code as `"module:Class"`, which is imported on first use.
  Neither the module with the hooks nor that with the options imports TensorFlow or Keras.
- A name is `lower_snake_case`, of a backbone of another library `library/name`, of a dataset with a prefix
  `prefix:<what>`, of a preset `backbone.tag`. What two plugins name alike is left out of the lists, and whoever uses it
  is told both.
- A hook that kzoo does not know, or a field of a wrong type, makes a plugin broken: it is reported, with what to do,
  and [everything else works](plugins.md#when-a-plugin-is-broken).
- Arguments and fields are only ever added, [as all that is public](stability.md)."""


def hooks_page() -> str:
    """The hooks with what they say of themselves, and the fields of the records they yield."""
    parts = [
        "# Hooks",
        "A plugin is a module with functions of these names, marked `@kzoo.hookimpl`, and an entry point in the group "
        "`kzoo` that names the module. [A first plugin](first-plugin.md) makes one.",
        "## The rules",
        _RULES,
    ]
    for name, function in vars(hookspecs).items():
        if name.startswith("kzoo_"):
            parts += [f"## {name}", f"```text\n{_signature(name, function)}\n```", inspect.getdoc(function) or ""]
    for record in (MethodSpec, BackboneSpec, DatasetSpec, ModalitySpec, PresetSpec, FormatSpec):
        told = _field_descriptions(MethodSpec) | _field_descriptions(record)
        rows = [
            (f"`{field.name}`", f"`{_annotation(field.type)}`", _default(field), told[field.name])
            for field in dataclasses.fields(record)
        ]
        first = (inspect.getdoc(record) or "").splitlines()[0]
        parts += [f"## kzoo.{record.__name__}", first, table(("field", "type", "default", "what it says"), rows)]
    return page(*parts)


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
            paragraph(ast.get_docstring(parsed(module)) or ""),
            table(("name", "what it is"), rows),
        ]
        if module == "kzoo.method":
            rows = [(f"`{name}`", told) for name, told in _members(parsed(module), "Method")]
            parts += ["### The members of `kzoo.Method`", table(("name", "what it is"), rows)]
    return page(*parts)


_FACTS = {
    "paper": "paper",
    "modality": "data",
    "requires": "needs",
    "offers": "offers",
    "abilities": "abilities",
    "strides": "strides",
    "channels": "channels",
    "min_size": "smallest image, px",
    "splits": "splits",
    "classes": "classes",
    "source": "source",
    "licence": "licence",
}
_OVERVIEW = {"modality": "data", "offers": "offers", "abilities": "abilities", "splits": "splits", "classes": "classes"}


def specs_page(title: str, specs: Sequence[BackboneSpec | DatasetSpec]) -> str:
    """Every backbone or dataset: an overview, then each with its options."""
    rows = []
    for spec in specs:
        known = describe.facts(spec)
        known["offers"] = [output for output in known.get("offers", ()) if not output.startswith("map_")]
        cells = [plain(known.get(key) or "") for key in _OVERVIEW]
        rows.append((f"[`{spec.name}`](#{anchor(spec.name.partition(':')[0])})", *cells, prose(spec.summary)))
    parts = [f"# {title}", table(("name", *_OVERVIEW.values(), "what it is"), rows)]
    for spec in specs:
        known = describe.facts(spec)
        lines = [
            f"- **{told}**: {linked_papers(prose(plain(value)))}"
            for key, told in _FACTS.items()
            if (value := known.get(key))
        ]
        lines.append(f"- **distribution**: {known['distribution']}")
        parts += [
            f"## `{spec.name}` {{ #{anchor(spec.name.partition(':')[0])} }}",
            f"{prose(spec.summary)}.",
            "\n".join(lines),
        ]
        parts += [options_table(spec) or "It has no options."]
    return page(*parts)


def presets_page() -> str:
    """Every preset that is installed, with its figures beside the untrained backbone's."""
    rows = []
    for spec in registry.presets():
        verdict = spec.figures.get("verdict", {})
        probes = [results.beside(verdict.get(probe)) for probe in ("linear_probe", "knn")]
        trained = f"[`{spec.method}`](methods/{spec.method}.md)" if spec.method else ""
        backbone = f"[`{spec.backbone}`](backbones.md#{anchor(spec.backbone)})"
        rows.append((f"`{spec.name}`", trained, f"`{spec.data}`", backbone, f"{spec.size / 1e6:.1f} MB", *probes))
    return page(
        "# Presets",
        "A preset is a trained backbone that a package brings: `kzoo.load_backbone(NAME)`, `kzoo embed NAME ...`, or "
        "`init_from: NAME` in a recipe. `kzoo pack RUN` makes one. Figures are trained / untrained.",
        table(("name", "method", "trained on", "backbone", "size", "linear probe, %", "kNN, %"), rows),
    )


def public_names(module: str) -> dict[str, str]:
    """The public names of a module of `PUBLIC`, each with the first sentence of its docstring."""
    tree = parsed(module)
    listed = next((ast.literal_eval(value) for name, value in _assigned(tree) if name == "__all__"), None)
    defined = dict(_definitions(tree))
    if listed is None:
        return {name: told for name, told in defined.items() if not name.startswith("_")}
    return {name: defined.get(name) or _imported(tree, name) for name in listed}


def _definitions(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, paragraph(ast.get_docstring(node) or "")
    for name, value in _assigned(tree):
        yield name, f"`{ast.unparse(value)}`"


def _members(tree: ast.Module, owner: str) -> Iterator[tuple[str, str]]:
    [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner]
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            is_property = any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)
            taken = [argument.arg for argument in node.args.args + node.args.kwonlyargs]
            arguments = "" if is_property else f"({', '.join(name for name in taken if name not in ('self', 'cls'))})"
            if told := paragraph(ast.get_docstring(node) or ""):
                yield node.name + arguments, told


def _imported(tree: ast.Module, name: str) -> str:
    """What the module says of a name that another takes from it, in an import or an `import ... if TYPE_CHECKING`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            return dict(_definitions(parsed(node.module))).get(name, "")
    return ""


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


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
