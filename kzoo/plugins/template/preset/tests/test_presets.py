"""What every preset must be: its weights are the right ones, load, and embed as when they were packed."""

from kzoo.testing import PresetSuite


class TestPreset(PresetSuite):
    preset = "newname"
