"""The conformance suite over every registered method and backbone: a class for each, as an author of one writes it."""

from kzoo import registry
from kzoo.testing import BackboneSuite, MethodSuite


def _class_name(name: str) -> str:
    return "Test" + "".join(part.capitalize() for part in name.replace("/", "_").split("_"))


for _spec in registry.methods():
    _name = _class_name(_spec.name)
    globals()[_name] = type(_name, (MethodSuite,), {"method": _spec.name, "replicas": (2, 4), "__module__": __name__})
for _spec in registry.backbones():
    _name = _class_name(_spec.name)
    globals()[_name] = type(_name, (BackboneSuite,), {"backbone": _spec.name, "__module__": __name__})
