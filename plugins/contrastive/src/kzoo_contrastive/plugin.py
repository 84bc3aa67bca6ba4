"""What the contrastive family brings. Each method has a module of its own in `specs/`."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import BackboneSpec, MethodSpec
from kzoo_contrastive.specs import (
    amdim,
    amdim_encoder,
    cmc,
    cpc,
    cpc_v2,
    deep_infomax,
    deep_infomax_encoder,
    emp_ssl,
    inst_disc,
    local_aggregation,
    moco_v1,
    moco_v2,
    moco_v3,
    simclr,
)

_METHODS = (
    simclr,
    moco_v1,
    moco_v2,
    moco_v3,
    inst_disc,
    local_aggregation,
    cmc,
    emp_ssl,
    cpc,
    cpc_v2,
    deep_infomax,
    amdim,
)


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield from (module.SPEC for module in _METHODS)


@hookimpl
def kzoo_backbones() -> Iterator[BackboneSpec]:
    yield amdim_encoder.SPEC
    yield deep_infomax_encoder.SPEC
