"""What a recipe can set. Light: no TensorFlow here, so that recipes are checked in a moment."""

from pydantic import Field

import kzoo
from kzoo.options import Width


class NewBackboneOptions(kzoo.Options):
    width: Width = Field(32, description="channels after the first convolution; doubled by each that follows")
