"""What `kzoo list` and `kzoo show` say: records and options, as plain data and as tables."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from fnmatch import fnmatchcase
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import kzoo
from kzoo.plugins import registry
from kzoo.plugins.load import load_plugins
from kzoo.schedules import Schedule
from kzoo.specs import CodeSpec, Spec
from kzoo.system.console import print_rows, room, tell

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_COLUMNS = {
    "methods": ("name", "family", "needs", "summary"),
    "backbones": ("name", "offers", "summary"),
    "datasets": ("name", "splits", "images", "classes", "summary"),
    "presets": ("name", "trained on", "linear probe"),
    "modalities": ("name", "key", "summary"),
    "formats": ("name", "file", "runtime", "summary"),
    "plugins": ("name", "distribution", "version", "status"),
    "recipes": ("recipe", "method", "data", "backbone", "summary"),
}
_ROOM = 48  # letters that a summary needs to say something
_COLOURS = {"ok": "green", "broken": "red", "disabled": "yellow"}


def listed(kinds: str, pattern: str = "*") -> list[dict[str, Any]]:
    """The "methods", "backbones", "datasets", "presets", "modalities", "formats" or "plugins" that match."""
    if kinds == "plugins":
        records = load_plugins().records
        return [asdict(record) | {"status": record.status} for record in records if fnmatchcase(record.name, pattern)]
    find: dict[str, Callable[[str], Sequence[Spec]]] = {
        "methods": registry.methods,
        "backbones": registry.backbones,
        "datasets": registry.datasets,
        "presets": registry.presets,
        "modalities": registry.modalities,
        "formats": registry.formats,
    }
    return [facts(spec) for spec in find[kinds](pattern)]


def facts(spec: Spec) -> dict[str, Any]:
    """A record as plain data, with the plugin that brings it and without its options."""
    plugin = registry.provider(spec)
    return {
        "kind": type(spec).__name__.removesuffix("Spec").lower(),
        **{field.name: getattr(spec, field.name) for field in fields(spec) if field.name != "options"},
        "plugin": plugin.name if plugin else "",
        "distribution": f"{plugin.distribution} {plugin.version}" if plugin else f"kzoo {kzoo.__version__}",
    }


def option_facts(options: type[BaseModel] | BaseModel, prefix: str = "") -> list[dict[str, Any]]:
    """Each option's dotted name, type with its range, default and description. Options of options follow flat."""
    rows: list[dict[str, Any]] = []
    for name, info in (options if isinstance(options, type) else type(options)).model_fields.items():
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        if not isinstance(options, type):
            default = getattr(options, name)  # an instance that is itself a default may differ from its class
        if isinstance(default, BaseModel) and not isinstance(default, Schedule):
            rows += option_facts(default, f"{prefix}{name}.")
            continue
        rows.append(
            {
                "name": prefix + name,
                "type": _type(info),
                "required": info.is_required(),
                "default": _plain(default),
                "description": info.description or "",
            }
        )
    return rows


def changed_options(options: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some options, as plain data, that are not the defaults."""
    defaults = {row["name"]: row["default"] for row in option_facts(options)}
    return {name: value for name, value in values.items() if name not in defaults or _plain(value) != defaults[name]}


def left_out(kinds: list[str]) -> Iterator[str]:
    """What a list lacks, and why: broken plugins, and names that several plugins claim."""
    broken = load_plugins().broken
    if broken and kinds != ["plugins"]:
        names = ", ".join(record.name for record in broken)
        yield f"broken: {names}; `kzoo list plugins` says what is wrong and what to do"
    for kind, plural in registry.PLURALS.items():
        for name, plugins in registry.conflicts(kind).items() if {plural, "plugins"} & set(kinds) else ():
            yield f"left out: {registry.ambiguous(kind, name, plugins)}"


def print_list(console: Console, kinds: str, rows: list[dict[str, Any]], pattern: str = "*") -> None:
    """Print what `listed` returned."""
    if not rows:
        console.print(f"no {kinds} " + ("are installed" if pattern == "*" else f"match '{pattern}'"), markup=False)
        return
    rows = sorted(rows, key=lambda row: row["family"]) if "family" in _COLUMNS[kinds] else rows
    cells = [_plugin_cells(row) if kinds == "plugins" else _cells(row) for row in rows]
    filled = [column for column in _COLUMNS[kinds] if any(row_cells[column] for row_cells in cells)]
    columns = _that_fit(filled, cells, console)
    table = plain_table(*columns, title=kinds)
    if columns[-1] == "summary":  # one line a row: the summary shows what there is room for
        for column in table.columns:
            column.no_wrap, column.overflow = True, "ellipsis"
        table.columns[-1].max_width = max(1, _room(columns, cells, console))
    for row_cells in cells:
        table.add_row(*(row_cells[column] for column in columns))
    print_rows(console, table)
    for row in rows:
        if row.get("status") == "broken":
            origin = f"{row['distribution']} {row['version']}".strip()
            console.print(f"\n[bold]{row['name']}[/] ({escape(origin or 'not installed')})")
            tell(console, f"  what is wrong: {row['problem']}")
            tell(console, f"  what to do:    {row['remedy']}")


def _width(column: str, cells: Sequence[Mapping[str, str]]) -> int:
    return max(len(column), *(len(row[column]) for row in cells))


def _room(columns: Sequence[str], cells: Sequence[Mapping[str, str]], console: Console) -> int:
    """Letters that are left for the last column."""
    return room(console) - sum(_width(column, cells) + 2 for column in columns[:-1])


def _that_fit(columns: Sequence[str], cells: Sequence[Mapping[str, str]], console: Console) -> list[str]:
    """The first column, the last, and as many of those between as leave the last one room to be read."""
    chosen = list(columns)
    while chosen[-1] == "summary" and len(chosen) > 2:
        if _room(chosen, cells, console) >= min(_ROOM, _width(chosen[-1], cells)):
            break
        del chosen[-2]
    return chosen


def print_spec(console: Console, spec: CodeSpec) -> None:
    """Print all there is to know about a method, a backbone or a dataset."""
    known = facts(spec)
    sides = known.get("image_shape")
    rows = {
        "paper": known.get("paper"),
        "family": known.get("family"),
        "modality": known.get("modality"),
        "trains backbones of": known.get("encodes"),
        "needs": ", ".join(known.get("requires", ())),
        "offers": ", ".join(known.get("offers", ())),
        "abilities": ", ".join(known.get("abilities", ())),
        "strides": ", ".join(map(str, known.get("strides", ()))),
        "channels": " or ".join(map(str, known.get("channels", ()))),
        "smallest image": f"{known['min_size']} px" if "min_size" in known else "",
        "splits": ", ".join(known.get("splits", ())),
        "images": _size(sides) if sides else "",
        "classes": known.get("classes"),
        "learns from": "labels" if known.get("labels") else "",
        "file": known.get("file"),
        "runtime": known.get("runtime"),
        "install": known.get("install"),
        "source": known.get("source"),
        "licence": known.get("licence"),
        "plugin": f"{known['plugin']} ({known['distribution']})" if known["plugin"] else known["distribution"],
    }
    console.print(f"[bold]{escape(spec.name)}[/], a {known['kind']}: {escape(spec.summary)}")
    grid = plain_table()
    for key, value in rows.items():
        if value:
            grid.add_row(f"[dim]{key}[/]", escape(str(value)))
    console.print(grid)
    console.print()
    table = plain_table("option", "default", "type", "what it sets")
    for option in option_facts(spec.options):
        default = "[red]required[/]" if option["required"] else escape(json.dumps(option["default"]))
        table.add_row(option["name"], default, escape(option["type"]), escape(option["description"]))
    console.print(table if table.rows else "no options")


def _cells(row: dict[str, Any]) -> dict[str, str]:
    shape = row.get("image_shape")
    return {
        "name": escape(row["name"]),
        "family": escape(row.get("family", "")),
        "summary": escape(row["summary"]),
        **{key: escape(row.get(key, "")) for key in ("recipe", "method", "data", "backbone")},
        "key": row.get("key", ""),
        "file": row.get("file", ""),
        "runtime": row.get("runtime", ""),
        "needs": ", ".join(row.get("requires", ())),
        # the earlier feature maps, "map_1" and on, are left to `kzoo show`
        "offers": ", ".join(output for output in row.get("offers", ()) if not output.startswith("map_")),
        "splits": ", ".join(row.get("splits", ())) or "its own",
        "images": _size(shape) if shape else "any size" if row.get("modality") == "image" else row.get("modality", ""),
        "classes": str(row.get("classes") or ""),
        "trained on": escape(row.get("data", "")),
        "linear probe": _beside(row.get("figures", {}).get("verdict", {}).get("linear_probe")),
    }


def _beside(found: Mapping[str, Any] | None) -> str:
    """A probe of a trained backbone, beside the same of the untrained one."""
    return f"{found['trained']:.1%}, untrained {found['untrained']:.1%}" if found else ""


def _plugin_cells(row: dict[str, Any]) -> dict[str, str]:
    return {
        "name": escape(row["name"]),
        "distribution": row["distribution"],
        "version": row["version"],
        "status": coloured(row["status"]) + f", {row['problem']}" * row["disabled"],
    }


def coloured(status: str) -> str:
    """A plugin's status in its colour, as rich markup."""
    return f"[{_COLOURS[status]}]{status}[/]"


def _size(shape: tuple[int, int, int]) -> str:
    height, width, channels = shape
    return f"{height} x {width} {'grey' if channels == 1 else 'colour' if channels == 3 else f'x {channels}'}"


def plain_table(*columns: str, title: str = "") -> Table:
    """A table without rules; without columns, one of two columns and no header."""
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        show_header=bool(columns),
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    for column in columns or ("", ""):
        table.add_column(column, no_wrap=column in ("name", "recipe", "option"), overflow="fold")
    return table


def _plain(value: Any) -> Any:
    """A default as JSON can say it."""
    if isinstance(value, Schedule):
        return value.model_dump(mode="json", exclude_none=True)
    return json.loads(json.dumps(value, default=lambda other: getattr(other, "value", str(other))))


def _type(info: "FieldInfo") -> str:
    """A field's type with its range, as a recipe's author sees it: "float > 0", "int >= 8 or null"."""
    names = _type_names(info.annotation)
    ranged = " ".join([" or ".join(name for name in names if name != "null"), _limits(info.metadata)]).strip()
    return ranged + " or null" * ("null" in names)


def _limits(metadata: Sequence[Any]) -> str:
    """ "1 to 5", "> 0 and < 1", ">= 1"; of several limits on one side the narrowest."""
    found = {}
    for key, sign, narrowest in (("gt", ">", max), ("ge", ">=", max), ("lt", "<", min), ("le", "<=", min)):
        values = [getattr(item, key) for item in metadata if getattr(item, key, None) is not None]
        if values:
            value = narrowest(values)
            found[sign] = f"{value:,}" if isinstance(value, int) else f"{value:g}"
    if list(found) == [">=", "<="]:
        return " to ".join(found.values())
    return " and ".join(f"{sign} {value}" for sign, value in found.items())


def _type_names(annotation: Any) -> list[str]:
    """A type's alternatives, in the words of YAML."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = [limit for item in arguments[1:] for limit in getattr(item, "metadata", [item])]
        return [f"{name} {_limits(limits)}".strip() for name in _type_names(arguments[0])]
    if origin is Literal:
        return [json.dumps(value) for value in arguments]
    if origin in (Union, UnionType):
        return list(dict.fromkeys(name for argument in arguments for name in _type_names(argument)))
    if origin is Annotated:
        return _type_names(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, Schedule):
        return ["schedule"]
    if origin in (list, tuple, set, frozenset):
        inner = dict.fromkeys(name for argument in arguments if argument is not ... for name in _type_names(argument))
        return [f"list of {' or '.join(inner)}"]
    if annotation is type(None):
        return ["null"]
    name = getattr(annotation, "__name__", "any")
    return [{"str": "text", "bool": "true or false", "dict": "mapping"}.get(name, name)]
