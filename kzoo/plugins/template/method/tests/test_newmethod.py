"""The suite that every method of kzoo passes: 1, 2 and 4 replicas train alike, what is saved comes back, and more."""

from kzoo.testing import MethodSuite


class TestNewMethod(MethodSuite):
    method = "newmethod"
