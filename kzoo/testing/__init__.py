"""What proves that a method or a backbone keeps kzoo's contract: `kzoo check NAME`, or as a class under pytest:

    from kzoo.testing import BackboneSuite, MethodSuite

    class TestMine(MethodSuite):
        method = "mine"

pytest itself is not needed to import this.
"""

from kzoo.testing.backbone_checks import BACKBONE_CHECKS
from kzoo.testing.method_checks import METHOD_CHECKS
from kzoo.testing.preset_checks import PRESET_CHECKS, PresetSubject
from kzoo.testing.replicas import Trace, train_on_replicas
from kzoo.testing.run import Outcome, run_checks, subjects_of
from kzoo.testing.subjects import BackboneSubject, MethodSubject
from kzoo.testing.suites import BackboneSuite, MethodSuite, PresetSuite

__all__ = [
    "BACKBONE_CHECKS",
    "METHOD_CHECKS",
    "PRESET_CHECKS",
    "BackboneSubject",
    "BackboneSuite",
    "MethodSubject",
    "MethodSuite",
    "Outcome",
    "PresetSubject",
    "PresetSuite",
    "Trace",
    "run_checks",
    "subjects_of",
    "train_on_replicas",
]
