"""The suite that every backbone of kzoo passes: named outputs, saving and loading, training in every precision."""

from kzoo.testing import BackboneSuite


class TestNewBackbone(BackboneSuite):
    backbone = "newbackbone"
