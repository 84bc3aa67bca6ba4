"""What a preset must be: a record that holds, the weights that it names, a model that embeds as when it was packed."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import keras
import numpy as np

from kzoo.plugins import registry, targets
from kzoo.plugins.locate import resource
from kzoo.runs.presets import find_weights
from kzoo.runs.pretrained import answer, load_backbone
from kzoo.specs import PresetSpec
from kzoo.testing.subjects import Subject

TOLERANCE = 1e-4  # of the largest value of the recorded embeddings: what processors differ by


class PresetSubject(Subject):
    """A preset, by its record or its registered name; its model is loaded once."""

    kind = "preset"

    def __init__(self, preset: PresetSpec | str):
        super().__init__()
        self._preset = registry.find_preset(preset) if isinstance(preset, str) else preset

    @property
    def spec(self) -> Any:
        return self._preset

    @property
    def expected_failures(self) -> Mapping[str, str]:
        return {}

    @cached_property
    def model(self) -> keras.Model:
        return load_backbone(self.name)


def check_record(subject: PresetSubject) -> None:
    """Its summary is one line, its backbone is registered, and its figures stand beside those of the untrained one."""
    spec = subject.spec
    if not spec.summary or "\n" in spec.summary:
        raise subject.fault("the summary is not one line", "give its record a summary of one line")
    backbone = registry.find_backbone(spec.backbone)
    targets.validate_options(backbone, spec.backbone_options)
    if backbone.modality != spec.modality:
        raise subject.fault(f"'{backbone.name}' is for {backbone.modality}", "name its modality in the record")
    for part in ("trained", "untrained", "verdict"):
        if part not in spec.figures:
            raise subject.fault(f"its figures lack '{part}'", "take those of the run's evaluation.json")


def check_weights(subject: PresetSubject) -> None:
    """The file of its weights is, by the SHA-256, the one that the record names."""
    size = find_weights(subject.spec).stat().st_size
    if subject.spec.size not in (0, size):
        raise subject.fault(f"its weights have {size:,} bytes, not {subject.spec.size:,}", "name their size")


def check_loads(subject: PresetSubject) -> None:
    """It is a Keras model that takes what the record says, and all of it can be trained."""
    takes, told = subject.model.inputs[0].shape[1:], subject.spec.input_shape
    shape = told if subject.spec.modality == "image" else told[:1]
    if len(takes) != len(shape) or any(one not in (None, other) for one, other in zip(takes, shape, strict=True)):
        raise subject.fault(f"takes {list(takes)}, and its record says {list(told)}", "name the input's shape")
    if not subject.model.trainable:
        raise subject.fault("is frozen", "save it with trainable = True")


def check_answers(subject: PresetSubject) -> None:
    """Its embeddings of the recorded inputs are those that were recorded."""
    if not subject.spec.answers:
        raise subject.fault("has no recorded answers", "pack it again with `kzoo pack`")
    with np.load(resource(subject.spec.answers), allow_pickle=False) as recorded:
        inputs, right = recorded["inputs"], recorded["embedding"]
    found = answer(subject.model, inputs)
    difference = np.max(np.abs(found - right)) / np.max(np.abs(right))
    if not difference <= TOLERANCE:  # also for NaN
        raise subject.fault(
            f"embeds recorded inputs otherwise than when it was packed, by {difference:.1e} of the largest value",
            f"at most {TOLERANCE:.0e} is rounding; install the versions that its record names",
        )


PRESET_CHECKS = (check_record, check_weights, check_loads, check_answers)
