"""Find the installed plugins and load each by itself, so that a broken one is reported and the others work.

pluggy's own entry-point loader stops at the first plugin that fails and drops a second one of the same name without a
word. Here each plugin gets a plugin manager of its own: pluggy checks its hooks, and whatever goes wrong stays with it.
What its records point to is looked for too, but not imported: a method brings TensorFlow.

Switches, read from the environment; a plugin is named by its entry point or by its distribution:
`KZOO_PLUGINS=""` loads none, `KZOO_PLUGINS=a,b` only these, `KZOO_DISABLE_PLUGINS=c` all but this.
"""

import json
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

import pluggy

import kzoo
from kzoo import hookspecs
from kzoo.options import Options
from kzoo.plugins.records import Kind, Refused, check_record, shortened
from kzoo.specs import BackboneSpec, DatasetSpec, FormatSpec, MethodSpec, ModalitySpec, PresetSpec, Spec

SpecType = TypeVar("SpecType", MethodSpec, BackboneSpec, DatasetSpec, ModalitySpec, PresetSpec, FormatSpec)

_HOOKS: dict[Kind, tuple[str, type[Spec]]] = {
    "method": ("kzoo_methods", MethodSpec),
    "backbone": ("kzoo_backbones", BackboneSpec),
    "dataset": ("kzoo_datasets", DatasetSpec),
    "modality": ("kzoo_modalities", ModalitySpec),
    "preset": ("kzoo_presets", PresetSpec),
    "format": ("kzoo_formats", FormatSpec),
}


@dataclass(frozen=True, kw_only=True)
class PluginRecord:
    """What became of one entry point of the group `kzoo`.

    name: the entry point's name. distribution, version: the package that brings it; "" where it has none.
    module: what the entry point names. ok: its methods, backbones and datasets can be used.
    disabled: switched off by the environment, so never imported.
    problem, remedy, traceback: "" where ok; what went wrong and what to do, one line each, and the full story.
    """

    name: str
    distribution: str
    version: str
    module: str
    ok: bool = True
    disabled: bool = False
    problem: str = ""
    remedy: str = ""
    traceback: str = ""

    @property
    def title(self) -> str:
        """How messages name it: "plugin 'contrastive' (kzoo-contrastive 0.1.0)"."""
        origin = f"{self.distribution} {self.version}".strip()
        return f"plugin '{self.name}'" + (f" ({origin})" if origin else "")

    @property
    def broken(self) -> bool:
        """It was wanted and cannot be used."""
        return not (self.ok or self.disabled)

    @property
    def status(self) -> str:
        """ "ok", "broken" or "disabled"."""
        return "broken" if self.broken else "disabled" if self.disabled else "ok"


@dataclass(frozen=True)
class Provided(Generic[SpecType]):
    """A record and the plugin that yielded it."""

    spec: SpecType
    plugin: PluginRecord


@dataclass(frozen=True)
class Plugins:
    """All plugins of this environment.

    records: one for each entry point, by name. provided: for each kind, in order of name, what the sound plugins
    yielded; two plugins may yield the same name, and then neither may be used (`kzoo.plugins.registry` refuses it).
    callback_options: the options of those plugins' callbacks that have some, by the plugin's name.
    """

    records: tuple[PluginRecord, ...] = ()
    provided: dict[Kind, tuple[Provided, ...]] = field(default_factory=lambda: dict.fromkeys(_HOOKS, ()))
    managers: dict[str, pluggy.PluginManager] = field(default_factory=dict)
    callback_options: dict[str, type[Options]] = field(default_factory=dict)

    @property
    def broken(self) -> tuple[PluginRecord, ...]:
        """The plugins that were wanted and cannot be used."""
        return tuple(record for record in self.records if record.broken)

    def callbacks(self, recipe: Any, run_dir: Path, worker: int = 0) -> tuple[list[Any], list[PluginRecord]]:
        """Ask every sound plugin for the Keras callbacks it adds to a run; see `kzoo.hookspecs.kzoo_callbacks`.

        Returns (callbacks, broken): a plugin that raises adds none and is named in `broken`, for the run to report.
        """
        callbacks: list[Any] = []
        broken = []
        for record in self.records:
            if record.ok:
                hook = self.managers[record.name].hook.kzoo_callbacks
                if worker and not any("worker" in found.argnames for found in hook.get_hookimpls()):
                    continue
                options = self.callback_options.get(record.name)
                said = recipe.callbacks.get(record.name) if options else None
                told = None if options is None or said is None else options.model_validate_json(json.dumps(said))
                try:
                    made = hook(recipe=recipe, run_dir=run_dir, options=told, worker=worker)
                    callbacks += [callback for yielded in made for callback in yielded]
                except KeyboardInterrupt:
                    raise
                except BaseException as error:
                    broken.append(_failed(record, "kzoo_callbacks raised " + describe(error)))
        return callbacks, broken


@cache
def load_plugins() -> Plugins:
    """Load every installed plugin that the switches allow. Never raises; `load_plugins.cache_clear()` forgets."""
    found, unreadable = _entry_points()
    entries = sorted(
        ((_record(entry), entry) for entry in found), key=lambda pair: (pair[0].name, pair[0].distribution)
    )
    records: list[PluginRecord] = []
    provided: dict[Kind, list[Provided]] = {kind: [] for kind in _HOOKS}
    managers: dict[str, pluggy.PluginManager] = {}
    callback_options: dict[str, type[Options]] = {}
    for record, entry in entries:
        if switch := _switched_off(record):
            records.append(replace(record, ok=False, disabled=True, problem=f"switched off by {switch}"))
            continue
        try:
            _refuse_repeated(record, [other for other in records if not other.disabled])
            _refuse_other_version(entry)
            with redirect_stdout(sys.stderr):  # what a plugin prints must not mix with the answer of `kzoo list --json`
                manager = _register(entry)
                specs = {kind: list(_specs(manager, kind)) for kind in _HOOKS}
                own = _callback_options(manager)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may call sys.exit() or raise anything: it stops only itself
            records.append(_failed(record, describe(error), getattr(error, "remedy", "")))
            continue
        records.append(record)
        managers[record.name] = manager
        if own:
            callback_options[record.name] = own[0]
        for kind, yielded in specs.items():
            provided[kind] += [Provided(spec, record) for spec in yielded]
    records += unreadable
    records += _not_installed(records)
    by_name = {kind: tuple(sorted(items, key=lambda item: item.spec.name)) for kind, items in provided.items()}
    return Plugins(tuple(records), by_name, managers, callback_options)


def describe(error: BaseException) -> str:
    """An exception as one line: "ImportError: No module named 'torch'"."""
    if isinstance(error, Refused):
        return str(error)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _entry_points() -> tuple[list[metadata.EntryPoint], list[PluginRecord]]:
    """The entry points of the group, and a record for each distribution of ours whose list of them cannot be read.

    One such list, of any package, makes `importlib.metadata.entry_points` raise; then each is read by itself.
    """
    try:
        return list(metadata.entry_points(group=hookspecs.GROUP)), []
    except Exception:
        pass
    seen: set[str] = set()
    entries: list[metadata.EntryPoint] = []
    unreadable = []
    for dist in metadata.distributions():
        if dist.name in seen:  # hidden by the one earlier on the path
            continue
        seen.add(dist.name)
        try:
            entries += dist.entry_points.select(group=hookspecs.GROUP)
        except Exception as error:
            if f"[{hookspecs.GROUP}]" in (dist.read_text("entry_points.txt") or ""):
                record = PluginRecord(name=dist.name, distribution=dist.name, version=dist.version, module="")
                problem = f"its entry_points.txt cannot be read: {describe(error)}"
                unreadable.append(_failed(record, problem, f"pip install --force-reinstall {dist.name}"))
    return entries, unreadable


def _record(entry: metadata.EntryPoint) -> PluginRecord:
    dist = entry.dist
    return PluginRecord(
        name=entry.name,
        distribution=(dist and dist.name) or "",
        version=(dist and dist.version) or "",
        module=entry.value,
    )


def _failed(record: PluginRecord, problem: str, remedy: str = "") -> PluginRecord:
    """The record of a plugin whose exception is being handled."""
    upgrade = f"pip install --upgrade {record.distribution}, or " if record.distribution else ""
    remedy = remedy or upgrade + _disable(record.name)
    return replace(record, ok=False, problem=problem, remedy=remedy, traceback=traceback.format_exc())


def _disable(name: str) -> str:
    return f"switch it off with KZOO_DISABLE_PLUGINS={name}"


def _names(variable: str) -> list[str] | None:
    """The comma-separated names in an environment variable, None where it is not set."""
    value = os.environ.get(variable)
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def _switched_off(record: PluginRecord) -> str:
    """The name of the switch that turns this plugin off, or ""."""
    known_as = {record.name, record.distribution}
    only = _names("KZOO_PLUGINS")
    if only is not None and known_as.isdisjoint(only):
        return "KZOO_PLUGINS"
    return "" if known_as.isdisjoint(_names("KZOO_DISABLE_PLUGINS") or ()) else "KZOO_DISABLE_PLUGINS"


def _not_installed(records: list[PluginRecord]) -> Iterator[PluginRecord]:
    """A record for each name in KZOO_PLUGINS that nothing has: a misspelt switch must not pass unseen."""
    known = {name for record in records for name in (record.name, record.distribution)}
    for name in _names("KZOO_PLUGINS") or ():
        if name not in known:
            yield PluginRecord(
                name=name,
                distribution="",
                version="",
                module="",
                ok=False,
                problem="KZOO_PLUGINS names it, but no such plugin is installed",
                remedy="install it, or take it out of KZOO_PLUGINS",
            )


def _refuse_repeated(record: PluginRecord, earlier: list[PluginRecord]) -> None:
    for other in earlier:
        if other.name == record.name:
            raise Refused(
                f"its entry point is called '{record.name}', as is that of {other.distribution} {other.version}",
                f"keep one of them: KZOO_DISABLE_PLUGINS={record.distribution} or ={other.distribution}",
            )


def _refuse_other_version(entry: metadata.EntryPoint) -> None:
    """Refuse, before importing it, a plugin whose distribution asks for another kzoo."""
    distribution = entry.dist
    requires = (distribution and distribution.requires) or ()
    wanted = [text for text in requires if re.match(r"(?i)kzoo(?![\w.-])", text)]
    if not (distribution and wanted):
        return
    from packaging.requirements import Requirement

    for requirement in map(Requirement, wanted):
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.specifier.contains(kzoo.__version__, prereleases=True):
            raise Refused(
                f"needs kzoo{requirement.specifier}, this is kzoo {kzoo.__version__}",
                f"install versions that fit: pip install --upgrade kzoo {distribution.name}",
            )


def _register(entry: metadata.EntryPoint) -> pluggy.PluginManager:
    """Import the plugin and let pluggy check its hooks."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    known = list(vars(manager.hook))
    plugin = entry.load()
    manager.register(plugin, name=entry.name)
    callers = manager.get_hookcallers(plugin) or []
    for caller in callers:
        if not caller.has_spec() and not all(hook.optionalhook for hook in caller.get_hookimpls()):
            near = get_close_matches(caller.name, known, n=1)
            raise Refused(
                f"declares the hook '{caller.name}', which kzoo {kzoo.__version__} does not know"
                + (f"; did it mean '{near[0]}'?" if near else ""),
                f"pip install --upgrade kzoo {entry.dist.name if entry.dist else ''}, or {_disable(entry.name)}",
            )
    declared = {caller.name for caller in callers}
    unmarked = [name for name in known if callable(getattr(plugin, name, None)) and name not in declared]
    if unmarked or not declared:
        what = f"{unmarked[0]} is not marked with @kzoo.hookimpl" if unmarked else f"'{entry.value}' has no hook"
        raise Refused(what, f"ask its author to mark each hook with @kzoo.hookimpl, or {_disable(entry.name)}")
    return manager


def _specs(manager: pluggy.PluginManager, kind: Kind) -> Iterator[Spec]:
    """The records a plugin yields for one kind, checked."""
    hook, spec_type = _HOOKS[kind]
    seen = set()
    for yielded in getattr(manager.hook, hook)():
        for spec in yielded:
            check_record(spec, kind, hook, spec_type)
            if spec.name in seen:
                raise ValueError(f"{hook} yielded {kind} '{spec.name}' twice")
            seen.add(spec.name)
            yield spec


def _callback_options(manager: pluggy.PluginManager) -> list[type[Options]]:
    """The options of a plugin's callbacks, none or one."""
    found = manager.hook.kzoo_callback_options()
    for options in found:
        if not (isinstance(options, type) and issubclass(options, Options)):
            raise TypeError(f"kzoo_callback_options returned {shortened(options)}; expected a subclass of kzoo.Options")
    return found
