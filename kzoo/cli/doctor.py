"""What `kzoo doctor` finds: versions that do not go together, broken plugins, another Keras backend, the processors."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Console

import kzoo
from kzoo.plugins import describe
from kzoo.plugins.load import PluginRecord, load_plugins
from kzoo.system import surroundings
from kzoo.system.console import tell


@dataclass(frozen=True)
class Package:
    """A package that kzoo or a plugin needs. version: "" where it is not installed. wanted: "" where any will do."""

    name: str
    version: str
    wanted: str
    wanted_by: str
    ok: bool


@dataclass(frozen=True)
class Findings:
    """What the doctor found. devices: TensorFlow's, None where it was not asked. problems: one line each."""

    system: str
    processors: int
    packages: tuple[Package, ...]
    plugins: tuple[PluginRecord, ...]
    left_out: tuple[str, ...]
    devices: tuple[str, ...] | None
    problems: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """3 where a plugin is broken or in conflict, 1 where something else is wrong, else 0."""
        broken = any(plugin.broken for plugin in self.plugins)
        return 3 if broken or self.left_out else 1 if self.problems else 0


def examine(*, full: bool = False) -> Findings:
    """Examine this environment. full: import TensorFlow too, which takes seconds, and list its devices."""
    plugins = load_plugins()
    packages = tuple(_packages(plugins.records))
    problems = [
        f"{package.name} {package.version or 'is not installed'}; {package.wanted_by} needs {package.wanted or 'it'}: "
        f"pip install '{package.name}{package.wanted}'"
        for package in packages
        if not package.ok
    ]
    problems += surroundings.problems(by_hand=True)
    return Findings(
        system=f"Python {platform.python_version()} on {platform.platform()}",
        processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        packages=packages,
        plugins=plugins.records,
        left_out=tuple(line for line in describe.left_out(["methods", "backbones", "datasets"]) if "left out" in line),
        devices=_devices() if full else None,
        problems=tuple(problems),
    )


def print_findings(console: Console, findings: Findings) -> None:
    """Print what was found, what is wrong last."""
    tell(console, f"kzoo {kzoo.__version__}, {findings.system}")
    console.print(f"{findings.processors} processors", markup=False)
    if findings.devices is not None:
        console.print(f"TensorFlow sees {', '.join(findings.devices)}", markup=False)
    table = describe.plain_table("package", "installed", "wanted", "wanted by", "")
    for package in findings.packages:
        mark = "[green]ok[/]" if package.ok else "[red]wrong[/]"
        table.add_row(package.name, package.version or "no", package.wanted, package.wanted_by, mark)
    console.print(table)
    console.print()
    table = describe.plain_table("plugin", "distribution", "")
    for plugin in findings.plugins:
        table.add_row(plugin.name, f"{plugin.distribution} {plugin.version}", describe.coloured(plugin.status))
    console.print(table if findings.plugins else "no plugins are installed")
    wrong = [*findings.problems, *findings.left_out]
    wrong += [f"{plugin.title}: {plugin.problem}; {plugin.remedy}" for plugin in findings.plugins if plugin.broken]
    console.print()
    console.print("[green]nothing is wrong[/]" if not wrong else f"[red]{len(wrong)} wrong:[/]")
    for line in wrong:
        tell(console, line)


def _packages(plugins: tuple[PluginRecord, ...]) -> Iterator[Package]:
    """What kzoo and the plugins ask for beside kzoo itself, and what is there; each package once for each wish."""
    seen = set()
    for asking in dict.fromkeys(["kzoo", *(plugin.distribution for plugin in plugins if plugin.distribution)]):
        try:
            requires = metadata.requires(asking) or []
        except metadata.PackageNotFoundError:  # kzoo run from its source folder
            requires = []
        for requirement in map(Requirement, requires):
            name, wanted = canonicalize_name(requirement.name), str(requirement.specifier)
            unasked = requirement.marker and not requirement.marker.evaluate({"extra": ""})
            if unasked or name == "kzoo" or (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            try:
                version = metadata.version(name)
            except metadata.PackageNotFoundError:
                version = ""
            fits = bool(version) and requirement.specifier.contains(version, prereleases=True)
            yield Package(name, version, wanted, asking, fits)


def _devices() -> tuple[str, ...]:
    import tensorflow as tf

    return tuple(device.name.removeprefix("/physical_device:") for device in tf.config.list_physical_devices())
