"""The trained backbones of this package: a folder each, in presets/, as `kzoo pack` wrote it. Light: nothing is loaded
here.
"""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.presets import packed
from kzoo.specs import PresetSpec


@hookimpl
def kzoo_presets() -> Iterator[PresetSpec]:
    yield from packed("kzoo_presets")
