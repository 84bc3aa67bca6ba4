"""The trained backbones of this package: a folder each, in presets/. Light: nothing is loaded here."""

from collections.abc import Iterator

import kzoo
from kzoo.presets import packed


@kzoo.hookimpl
def kzoo_presets() -> Iterator[kzoo.PresetSpec]:
    yield from packed("kzoo_newpreset")
