"""Checks that a record says will fail, and why."""

from collections.abc import Callable
from typing import Any

from kzoo.errors import ConformanceError
from kzoo.testing.subjects import Subject


def name_of(check: Callable[[Any], None]) -> str:
    """How a check is called in reports and records: "replicas"."""
    return check.__name__.removeprefix("check_")


def run_check(check: Callable[[Any], None], subject: Subject) -> str:
    """Run a check. Returns the reason where it fails as the record says, else "".

    Raises ConformanceError where it fails, and where it holds although the record says that it fails.
    """
    name = name_of(check)
    reason = subject.expected_failures.get(name, "")
    if not reason:
        check(subject)
        return ""
    try:
        check(subject)
    except ConformanceError:
        return reason
    raise subject.fault(f"check '{name}' holds, and its record says that it fails", "take it out of expected_failures")


def refuse_unknown(subject: Subject, checks: list[str]) -> None:
    """Raise ConformanceError where a record names a check that there is not, or gives no reason."""
    for name, reason in subject.expected_failures.items():
        if name not in checks:
            raise subject.fault(f"expected_failures names '{name}', which is no check", f"known: {', '.join(checks)}")
        if not reason:
            raise subject.fault(f"expected_failures says of '{name}' no reason", "say in a few words why it fails")
