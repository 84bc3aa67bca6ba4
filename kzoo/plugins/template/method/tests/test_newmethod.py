"""The suite that every method of kzoo passes, and what only this one promises."""

import numpy as np

from kzoo.testing import MethodSuite
from kzoo.testing.fakes import batch_of, build, images


class TestNewMethod(MethodSuite):
    method = "newmethod"


class TestNewMethodTeacher(MethodSuite):
    method = "newmethod_teacher"


def test_the_teacher_takes_a_tenth_of_each_step() -> None:
    method = build("newmethod_teacher", learning_rate=0.1, projector=(32, 16), momentum=0.9)
    batch = batch_of(method, images(8))
    method.train_step(batch)  # the teacher follows before the student learns: so far both are as they began
    student, teacher = np.array(method.projector.weights[0]), np.array(method.teacher.models[1].weights[0])
    method.train_step(batch)
    moved = np.array(method.teacher.models[1].weights[0])
    np.testing.assert_allclose(moved, 0.9 * teacher + 0.1 * student, atol=1e-6)
