from pydantic import Field

import kzoo
from kzoo.options import Count, ViewOptions, Width


class ReSSLOptions(kzoo.ImageOptions):
    student_temperature: float = Field(0.1, gt=0, description="softmax temperature of the student's relations")
    teacher_temperature: float = Field(0.04, gt=0, description="softmax temperature of the teacher's: sharper")
    momentum: float = Field(0.99, ge=0, le=1, description="momentum of the teacher's moving average")
    queue: Count = Field(4096, description="number of remembered embeddings; a multiple of the batch")
    projector: tuple[Width, ...] = Field((512, 128), min_length=1, description="widths of the projector's layers")
    strong: ViewOptions = Field(default_factory=ViewOptions, description="how the student's view is made")


class BurrowOptions(kzoo.Options):
    width: Width = Field(16, description="channels after the first convolution; twice that after the second")
