"""How what is checked is built, here and in another process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from kzoo.data.source import Source
from kzoo.method import Method
from kzoo.modality import CheckExamples
from kzoo.plugins import registry, targets
from kzoo.specs import PATCH_ABILITIES, BackboneSpec, MethodSpec
from kzoo.testing.examples import raw_batch
from kzoo.testing.tiny import tiny_vision_transformer

BATCH = 16


@dataclass(frozen=True)
class MethodSetup:
    """How a method is built for its checks; goes to another process by pickle.

    backbone: a registered name; none: a tiny one. options: of the method, what is left out has its default.
    """

    spec: MethodSpec
    backbone: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def examples(self) -> CheckExamples:
        return targets.modality(self.spec.modality).examples()

    @property
    def depth(self) -> int:
        """Of the examples it is checked with: for images 3 channels where it can."""
        usual = self.examples.depth
        return usual if usual in (self.spec.channels or (usual,)) else self.spec.channels[0]

    @property
    def other_depth(self) -> int:
        """Another that it must work with, where its record does not say otherwise: for images 1 channel."""
        other = self.examples.other_depth
        return other if other in (self.spec.channels or (other,)) else self.depth

    def source(self, size: int | None = None, depth: int | None = None) -> Source:
        """The examples it is checked with."""
        return self.examples.source(size or self.examples.size, depth or self.depth)

    @property
    def key(self) -> str:
        """What of a batch the backbone takes: "image"."""
        return registry.find_modality(self.spec.backbone_modality).key

    @property
    def _of_backbone(self) -> CheckExamples:
        return targets.modality(self.spec.backbone_modality).examples()

    def inputs(self, count: int, size: int | None = None, depth: int | None = None) -> np.ndarray:
        """What the method is called on: uint8 images `[count, H, W, C]` of the views' size, or int32 tokens."""
        source = self._of_backbone.source(self.view_size(size), depth or self.depth)
        return np.asarray(raw_batch(source, count)[self.key])

    def view_size(self, size: int | None = None) -> int:
        """The size of what the backbone sees: that of the examples, where the options do not set another."""
        return targets.validate_options(self.spec, self.options).model_dump().get("size") or size or self.examples.size

    def build(self, size: int | None = None, depth: int | None = None) -> Method:
        """The method around a new backbone, for examples of a size and depth."""
        options = targets.validate_options(self.spec, self.options)
        examples = self._of_backbone
        shape = examples.shape(None if self.spec.any_size else self.view_size(size), depth or self.depth)
        if self.backbone is None:
            tiny = tiny_vision_transformer if set(PATCH_ABILITIES) & set(self.spec.requires) else examples.tiny
            backbone = tiny(shape)
        else:
            spec = registry.find_backbone(self.backbone)
            backbone = targets.build_backbone(self.backbone, shape, **spec.check_options)
        return targets.resolve(self.spec)(backbone, options, data=self.source())

    def optimizer(self) -> keras.optimizers.Optimizer:
        """What trains the method, as quick as its record allows."""
        return keras.optimizers.SGD(self.spec.check_learning_rate, momentum=0.9)

    def import_unlisted(self) -> None:
        """Import the code of a record that no plugin yields; what plugins bring, `import kzoo` lets Keras find."""
        if self.spec not in registry.methods():
            targets.resolve(self.spec)


@dataclass(frozen=True)
class BackboneSetup:
    """How a backbone is built for its checks; goes to another process by pickle."""

    spec: BackboneSpec
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def examples(self) -> CheckExamples:
        return targets.modality(self.spec.modality).examples()

    def build(self, size: int | None, depth: int) -> keras.Model:
        """The backbone for examples of a size, none for any, and depth."""
        options = targets.validate_options(self.spec, self.options)
        return targets.resolve(self.spec)(self.examples.shape(size, depth), options)

    def inputs(self, count: int, size: int, depth: int) -> np.ndarray:
        """What the backbone is called on: float images in [0, 1] `[count, size, size, depth]`, or int32 tokens."""
        return self.examples.inputs(count, size, depth)

    def import_unlisted(self) -> None:
        """Import the code of a record that no plugin yields; what plugins bring, `import kzoo` lets Keras find."""
        if self.spec not in registry.backbones():
            targets.resolve(self.spec)
