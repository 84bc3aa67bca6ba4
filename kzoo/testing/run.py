"""Running all checks of a subject one by one, as `kzoo check` does."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table

from kzoo.errors import KzooError, RecipeError
from kzoo.plugins import registry, targets
from kzoo.specs import BackboneSpec, MethodSpec, PresetSpec
from kzoo.testing.backbone_checks import BACKBONE_CHECKS
from kzoo.testing.expected import name_of, run_check
from kzoo.testing.method_checks import METHOD_CHECKS
from kzoo.testing.preset_checks import PRESET_CHECKS, PresetSubject
from kzoo.testing.subjects import BackboneSubject, MethodSubject, Subject

Check = Callable[[Any], None]


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    message: one line, "" where it is ok, or why it is expected to fail. traceback: of an error that the check did not
    expect. expected: it fails as the record says.
    """

    check: str
    ok: bool
    seconds: float
    message: str = ""
    traceback: str = ""
    expected: bool = False


def subjects_of(name: str) -> list[Subject]:
    """The methods, backbones and presets of this name. Raises PluginError where there is none that can be imported."""
    found: list[Subject] = []
    for spec in registry.find_any(name):
        if isinstance(spec, MethodSpec | BackboneSpec):
            targets.resolve(spec)
            found.append(MethodSubject(spec) if isinstance(spec, MethodSpec) else BackboneSubject(spec))
        elif isinstance(spec, PresetSpec):
            found.append(PresetSubject(spec))
    if not found:
        raise RecipeError(f"'{name}' is a dataset; what can be checked are methods, backbones and presets")
    return found


def checks_of(subject: Subject) -> Sequence[Check]:
    """In their order."""
    if isinstance(subject, PresetSubject):
        return PRESET_CHECKS
    return METHOD_CHECKS if isinstance(subject, MethodSubject) else BACKBONE_CHECKS


def run_checks(subject: Subject, begin: Callable[[str], None] = lambda check: None) -> Iterator[Outcome]:
    """What each check found, one after the other. begin: told the name of a check before it runs."""
    for check in checks_of(subject):
        name = name_of(check)
        begin(name)
        began = time.monotonic()
        message = story = reason = ""
        try:
            reason = run_check(check, subject)
        except KzooError as error:
            message = " ".join(str(error).split())
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            said = " ".join(str(error).split())[:300]
            message = f"{subject.name}: {type(error).__name__}: {said} ({frame.filename}:{frame.lineno})"
            story = traceback.format_exc()
        yield Outcome(name, not message, time.monotonic() - began, message or reason, story, bool(reason))


def print_checks(console: Console, subject: Subject) -> list[Outcome]:
    """Run the checks and show what each found as it comes."""
    table = Table("check", "", Column("seconds", justify="right"), Column("what is wrong; what to change", ratio=1))
    table.box, table.title, table.title_justify = None, f"{subject.kind} {subject.name}", "left"
    outcomes = []

    def begin(check: str) -> None:
        table.caption = f"checking {check} ..."

    with Live(table, console=console):
        for outcome in run_checks(subject, begin):
            outcomes.append(outcome)
            good = "[yellow]expected[/]" if outcome.expected else "[green]ok[/]"
            word = good if outcome.ok else "[red]failed[/]"
            table.add_row(outcome.check, word, f"{outcome.seconds:.1f}", escape(outcome.message))
        failed = sum(not outcome.ok for outcome in outcomes)
        table.caption = f"{len(outcomes)} checks, {failed} failed, {sum(one.seconds for one in outcomes):.0f} seconds"
    return outcomes
