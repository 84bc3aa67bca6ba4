"""Schedules against values computed by hand."""

import math

import pytest
from pydantic import Field, ValidationError

from kzoo import schedules
from kzoo.errors import OptionsError
from kzoo.options import Options
from kzoo.plugins import describe, targets
from kzoo.schedules import Cosine, Linear, Steps, Time, WarmUp, value_at
from kzoo.specs import MethodSpec


class Settings(Options):
    momentum: schedules.Share = Field(0.9, description="a share")
    temperature: schedules.Positive = Field(0.1, description="above zero")


@pytest.mark.parametrize(
    ("schedule", "epoch", "expected"),
    [
        (0.996, 7.0, 0.996),
        (Linear(start=0.04, end=0.07, epochs=30), 15.0, 0.055),
        (Linear(start=0.04, end=0.07, epochs=30), 40.0, 0.07),
        (Linear(start=1.0, end=0.0), 25.0, 0.75),
        (Cosine(start=0.996, end=1.0), 0.0, 0.996),
        (Cosine(start=0.996, end=1.0), 50.0, 0.998),
        (Cosine(start=0.996, end=1.0), 25.0, 1.0 - 0.004 * (1 + math.cos(math.pi / 4)) / 2),
        (Cosine(start=0.996, end=1.0), 100.0, 1.0),
        (Steps(start=0.03, epochs=(60, 80), factor=0.1), 59.9, 0.03),
        (Steps(start=0.03, epochs=(60, 80), factor=0.1), 60.0, 0.003),
        (Steps(start=0.03, epochs=(60, 80), factor=0.1), 80.0, 0.0003),
        (WarmUp(epochs=10, then=0.5), 4.9, 0.25),  # the step that ends at epoch 5
        (WarmUp(epochs=10, then=Cosine(start=0.5, end=0.0)), 55.0, 0.25),  # half of the 90 epochs that are left
        (WarmUp(epochs=10, then=Steps(start=1.0, epochs=(60,))), 60.0, 0.1),  # counted from the very beginning
        (WarmUp(epochs=0, then=0.5), 0.0, 0.5),
    ],
)
def test_a_value_at_an_epoch_of_a_hundred(schedule, epoch, expected):
    assert float(value_at(schedule, Time(epoch, 100.0, step=0.1))) == pytest.approx(expected, rel=1e-5)


def test_without_a_known_end_nothing_moves_that_needs_it():
    assert float(value_at(Cosine(start=0.996, end=1.0), Time(30.0))) == pytest.approx(0.996)
    assert float(value_at(Linear(start=0.0, end=1.0, epochs=60), Time(30.0))) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "text",
    [
        '{"momentum": 0.99}',
        '{"momentum": {"schedule": "cosine", "start": 0.996, "end": 1}}',
        '{"momentum": {"schedule": "warmup", "epochs": 2, "then": {"schedule": "steps", "start": 1, "epochs": [3]}}}',
    ],
)
def test_options_with_schedules_are_read_back_equal(text):
    options = Settings.model_validate_json(text, strict=True)
    assert Settings.model_validate_json(options.model_dump_json(), strict=True) == options


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ('{"momentum": 1.5}', ("momentum",), "at least 0 and at most 1 at all times; received 1.5"),
        ('{"momentum": {"schedule": "cosine", "start": 0.9, "end": 1.2}}', ("momentum",), "received 1.2"),
        ('{"temperature": {"schedule": "linear", "start": 0.1, "end": 0}}', ("temperature",), "above 0 at all times"),
        ('{"temperature": {"schedule": "warmup", "epochs": 1, "then": 1}}', ("temperature",), "received 0"),
        ('{"momentum": {"schedule": "cosin", "start": 0}}', ("momentum",), "linear, cosine, steps or warmup"),
        ('{"momentum": {"schedule": "linear", "start": 0}}', ("momentum", "~linear", "end"), "Field required"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_once(text, place, said):
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate_json(text, strict=True)
    [error] = caught.value.errors()
    assert error["loc"] == place
    assert said in error["msg"]


def spec():
    about = {"family": "f", "summary": "s", "paper": "p"}
    return MethodSpec(name="mine", target="not:imported", options=Settings, **about)


def test_a_fault_within_a_schedule_is_told_where_a_recipe_has_it():
    with pytest.raises(OptionsError, match=r"^mine: momentum\.end: missing$"):
        targets.validate_options(spec(), {"momentum": {"schedule": "linear", "start": 0}})
    with pytest.raises(OptionsError, match=r"^mine: momentum\.ends: unknown key; did you mean 'end'\?$"):
        targets.validate_options(spec(), {"momentum": {"schedule": "linear", "start": 0, "end": 1, "ends": 1}})


def test_an_option_that_may_be_a_schedule_is_shown_in_one_row():
    [row, _] = describe.option_facts(Settings(momentum=Cosine(start=0.9, end=1.0)))
    assert row["name"] == "momentum"
    assert row["type"] == "float or schedule"
    assert row["default"] == {"schedule": "cosine", "start": 0.9, "end": 1.0}
