"""The conformance suite over every registered method and backbone: a class for each, as an author of one writes it.

Every method trains on two replicas as on one. On four, which costs as much again, those do that need the other replicas
in ways of their own; all of them do in benchmarks/replicas.py.
"""

from kzoo import registry
from kzoo.testing import BackboneSuite, MethodSuite

# views gathered, a queue and shuffled statistics, a bank
ON_FOUR = ("simclr", "moco_v2", "inst_disc")


def _class_name(name: str) -> str:
    return "Test" + "".join(part.capitalize() for part in name.replace("/", "_").split("_"))


for _spec in registry.methods():
    _name = _class_name(_spec.name)
    _counts = (2, 4) if _spec.name in ON_FOUR else (2,)
    globals()[_name] = type(_name, (MethodSuite,), {"method": _spec.name, "replicas": _counts, "__module__": __name__})
for _spec in registry.backbones():
    _name = _class_name(_spec.name)
    globals()[_name] = type(_name, (BackboneSuite,), {"backbone": _spec.name, "__module__": __name__})
