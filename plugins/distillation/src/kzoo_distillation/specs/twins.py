"""What can be set of BYOL and SimSiam alike."""

from kzoo.options import ImageOptions, ViewOptions


class TwinsOptions(ImageOptions):
    """What BYOL and SimSiam share."""

    view_0: ViewOptions
    view_1: ViewOptions
