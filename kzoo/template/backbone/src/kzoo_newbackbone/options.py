"""What a recipe can set. Light: no TensorFlow here, so that recipes are checked in a moment."""

from pydantic import Field

import kzoo


class NewBackboneOptions(kzoo.Options):
    width: int = Field(32, ge=1, description="channels after the first convolution; doubled by each that follows")
