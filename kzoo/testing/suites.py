"""The checks as classes for pytest, which this module does not import."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from kzoo.testing.backbone_checks import BACKBONE_CHECKS
from kzoo.testing.expected import run_check
from kzoo.testing.method_checks import METHOD_CHECKS
from kzoo.testing.preset_checks import PRESET_CHECKS, PresetSubject
from kzoo.testing.subjects import BackboneSubject, MethodSubject, Subject


class _Suite:
    """Makes the subject before the first test of a class, and clears it away after the last."""

    subject: ClassVar[Any]

    @classmethod
    def make_subject(cls) -> Subject:
        raise TypeError(f"{cls.__name__}: derive it from MethodSuite, BackboneSuite or PresetSuite")

    @classmethod
    def setup_class(cls) -> None:
        cls.subject = cls.make_subject()

    @classmethod
    def teardown_class(cls) -> None:
        cls.subject.close()


class MethodSuite(_Suite):
    """Derive, name the method, and pytest runs every check on it as a test of its own.

    method: the registered name. backbone, options, replicas: as `kzoo.testing.MethodSubject` takes them.
    """

    method: ClassVar[str]
    backbone: ClassVar[str | None] = None
    options: ClassVar[Mapping[str, Any]] = {}
    replicas: ClassVar[Sequence[int]] = (2,)

    @classmethod
    def make_subject(cls) -> MethodSubject:
        return MethodSubject(cls.method, backbone=cls.backbone, options=cls.options, replicas=cls.replicas)


class BackboneSuite(_Suite):
    """Derive, name the backbone, and pytest runs every check on it as a test of its own.

    backbone: the registered name. options: as `kzoo.testing.BackboneSubject` takes them.
    """

    backbone: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def make_subject(cls) -> BackboneSubject:
        return BackboneSubject(cls.backbone, options=cls.options)


class PresetSuite(_Suite):
    """Derive, name the preset, and pytest runs every check on it as a test of its own."""

    preset: ClassVar[str]

    @classmethod
    def make_subject(cls) -> PresetSubject:
        return PresetSubject(cls.preset)


def _as_test(check: Callable[[Any], None]) -> Callable[[_Suite], None]:
    def test(self: _Suite) -> None:
        if reason := run_check(check, self.subject):
            import pytest  # which runs this

            pytest.xfail(reason)

    test.__doc__ = check.__doc__
    return test


_SUITES = ((MethodSuite, METHOD_CHECKS), (BackboneSuite, BACKBONE_CHECKS), (PresetSuite, PRESET_CHECKS))
for _suite, _checks in _SUITES:
    for _check in _checks:
        setattr(_suite, _check.__name__.replace("check_", "test_", 1), _as_test(_check))
