"""What a recipe can set. Light: no TensorFlow here, so that recipes are checked in a moment."""

from pydantic import Field

import kzoo
from kzoo.options import ViewOptions, Width
from kzoo.schedules import Share


class NewMethodOptions(kzoo.ImageOptions):
    temperature: float = Field(0.2, gt=0, description="softmax temperature")
    projector: tuple[Width, ...] = Field((128, 64), min_length=1, description="widths of the projector's Dense layers")
    view: ViewOptions = Field(default_factory=ViewOptions, description="how each of the two views is made")


class NewMethodTeacherOptions(NewMethodOptions):
    momentum: Share = Field(0.99, description="momentum of the teacher's moving average; a number or a schedule")
