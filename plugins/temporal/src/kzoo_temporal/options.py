"""Options of datasets, backbones and methods of video and stereo. Light: pydantic only."""

from typing import Literal

from pydantic import Field

from kzoo.options import Count, Layout, Options, Pixels, Side


class FrameOptions(Options):
    """The size that pictures are brought to."""

    size: Side = Field(64, description="height in pixels that frames are scaled to; their middle is taken")
    width: Side | None = Field(None, description="width in pixels; none: as the height")


class ClipOptions(FrameOptions):
    """How videos are cut into clips."""

    fps: float | None = Field(
        10.0, gt=0, le=1000, description="frames a second, evenly in time whatever the file has; none: all of them"
    )
    length: Count = Field(8, description="frames of a clip")
    step: Count = Field(2, description="frames between the beginnings of neighbouring clips of one file")
    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of each file, its end, held out as split test; unused where the folder has its own splits",
    )


class VideoFileOptions(ClipOptions):
    """Options of every dataset named `video:<path>`."""

    layout: Layout = "auto"
    skip_broken: bool = Field(
        False, description="leave out, and name, the files that cannot be read; false: they are an error"
    )


class ClipsOptions(ClipOptions):
    """Options of the dataset `clips`."""

    names: tuple[Literal["bikes", "carphone", "bunny", "pedestrians", "tree"], ...] = Field(
        ("bikes", "carphone", "bunny"),
        min_length=1,
        description="which clips; pedestrians and tree are of the Debian package opencv-doc",
    )


class StereoFileOptions(FrameOptions):
    """Options of every dataset named `stereo:<path>`."""

    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the pairs held out as split test, chosen by a hash of their names; unused where the "
        "folder has its own splits",
    )
    skip_broken: bool = Field(
        False, description="leave out, and name, the pairs that cannot be read; false: they are an error"
    )


class PairsOptions(Options):
    """How the rectified pairs are cut into crops; options of the dataset `pairs`."""

    names: tuple[Literal["motorcycle", "aloe"], ...] = Field(
        ("motorcycle",), min_length=1, description="which pairs; aloe is of the Debian package opencv-doc"
    )
    height: Side = Field(192, description="height in pixels that both pictures of a pair are scaled to")
    size: Side = Field(64, description="height of a crop in pixels")
    width: Side = Field(128, description="width of a crop in pixels")
    stride: Pixels = Field(8, ge=1, description="distance between neighbouring crops in pixels")
    test_fraction: float = Field(
        0.35, gt=0, lt=1, description="share of the rows, the lowest, whose crops are held out as split test"
    )
