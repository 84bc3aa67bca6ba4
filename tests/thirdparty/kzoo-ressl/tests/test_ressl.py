from kzoo.testing import BackboneSuite, MethodSuite


class TestReSSL(MethodSuite):
    method = "ressl"


class TestBurrow(BackboneSuite):
    backbone = "burrow"
