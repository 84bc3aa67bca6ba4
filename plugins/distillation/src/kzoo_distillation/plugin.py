"""What the distillation family brings. Each method has a module of its own in `specs/`."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_distillation.specs import byol, data2vec, dino, dinov2, ibot, sere, simsiam

_METHODS = (byol, simsiam, dino, ibot, dinov2, data2vec, sere)


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield from (module.SPEC for module in _METHODS)
