"""What this plugin brings. Light: no TensorFlow here, so that `kzoo list` stays quick."""

from collections.abc import Iterator

import kzoo
from kzoo_newbackbone.options import NewBackboneOptions


@kzoo.hookimpl
def kzoo_backbones() -> Iterator[kzoo.BackboneSpec]:
    yield kzoo.BackboneSpec(
        name="newbackbone",
        target="kzoo_newbackbone.newbackbone:newbackbone",
        options=NewBackboneOptions,
        family="convnet",
        summary="three strided convolutions, 128-wide embedding, 0.1 M parameters",
        offers=("embedding", "map", "map_1", "map_2"),
        min_size=8,
        any_size=True,
        strides=(2, 4, 8),
    )
