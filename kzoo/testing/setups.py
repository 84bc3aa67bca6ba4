"""How what is checked is built, here and in another process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from kzoo import registry
from kzoo.data import Source
from kzoo.method import Method
from kzoo.specs import BackboneSpec, MethodSpec
from kzoo.testing import examples
from kzoo.testing.tiny import tiny_backbone

BATCH = 32
SIZE = 32


@dataclass(frozen=True)
class MethodSetup:
    """How a method is built for its checks; goes to another process by pickle.

    backbone: a registered name; none: kzoo's tiny convnet. options: of the method, what is left out has its default.
    """

    spec: MethodSpec
    backbone: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Of the images it is checked with: 3 where it can."""
        return 3 if 3 in (self.spec.channels or (3,)) else self.spec.channels[0]

    def source(self, size: int = SIZE, channels: int | None = None) -> Source:
        """The examples it is checked with."""
        return examples.source(self.spec.modality, size, channels or self.channels)

    def build(self, size: int = SIZE, channels: int | None = None) -> Method:
        """The method around a new backbone, for images of `size` pixels."""
        options = registry.validate_options(self.spec, self.options)
        side = None if self.spec.any_size else getattr(options, "size", None) or size
        shape = (side, side, channels or self.channels)
        if self.backbone is None:
            backbone = tiny_backbone(shape)
        else:
            spec = registry.find_backbone(self.backbone)
            backbone = registry.build_backbone(self.backbone, shape, **spec.check_options)
        return registry.resolve(self.spec)(backbone, options, examples=examples.COUNT)

    def import_plugins(self) -> None:
        """Make all classes known that a saved method names."""
        registry.resolve(self.spec)
        if self.backbone is not None:
            registry.resolve(registry.find_backbone(self.backbone))


@dataclass(frozen=True)
class BackboneSetup:
    """How a backbone is built for its checks; goes to another process by pickle."""

    spec: BackboneSpec
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, height: int | None, width: int | None, channels: int) -> keras.Model:
        options = registry.validate_options(self.spec, self.options)
        return registry.resolve(self.spec)((height, width, channels), options)

    def import_plugins(self) -> None:
        """Make all classes known that a saved backbone names."""
        registry.resolve(self.spec)
