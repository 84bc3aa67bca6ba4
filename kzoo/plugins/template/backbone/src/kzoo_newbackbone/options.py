"""What a recipe can set. Light: no TensorFlow here, so that recipes are checked in a moment."""

from pydantic import Field

from kzoo.options import ImageBackboneOptions, Width


class NewBackboneOptions(ImageBackboneOptions):
    width: Width = Field(32, description="channels after the first convolution; doubled by each that follows")
