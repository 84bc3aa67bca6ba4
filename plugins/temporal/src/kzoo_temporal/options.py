"""Options of datasets, backbones and methods of video and stereo. Light: pydantic only."""

from typing import Literal, Self

from pydantic import Field, model_validator

from kzoo import schedules
from kzoo.options import Count, Depth, ImageOptions, Layout, Options, Pixels, Side, ViewOptions, Width


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
    shots: bool = Field(True, description="a file that has cuts is as many videos as shots; false: each file is one")
    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of each video, its end, held out as split test; unused where the folder has its own splits",
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


class TracksOptions(Options):
    """Options of the dataset `tracks`."""

    names: tuple[Literal["bikes", "carphone", "bunny", "pedestrians", "tree"], ...] = Field(
        ("bikes", "carphone", "bunny"), min_length=2, description="which clips, as of the dataset clips"
    )
    height: Side = Field(96, description="height in pixels that frames are scaled to; their middle is taken")
    width: Side = Field(128, description="width in pixels that frames are scaled to")
    fps: float = Field(25.0, gt=0, le=1000, description="frames a second")
    patch: Side = Field(48, description="side of a patch in pixels")
    length: int = Field(16, ge=2, le=10_000, description="frames from the first patch of a track to its last")
    stride: Pixels = Field(8, ge=1, description="distance between neighbouring boxes in pixels")
    test_fraction: float = Field(0.3, gt=0, lt=1, description="share of each shot, its end, held out as split test")


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
    height: Side = Field(160, description="height in pixels that both pictures of a pair are scaled to")
    stretch: float = Field(
        1.0,
        ge=0.25,
        le=4,
        description="how many times as wide they become, beside their height: a square crop of full height then shows "
        "less of the scene's width, and disparities are finer",
    )
    size: Side = Field(64, description="height of a crop in pixels")
    width: Side = Field(64, description="width of a crop in pixels")
    stride: Pixels = Field(4, ge=1, description="distance between neighbouring crops in pixels")
    test_fraction: float = Field(
        0.4, gt=0, lt=1, description="share of the columns, on the right, whose crops are held out as split test"
    )


class ShuffleAndLearnOptions(ImageOptions):
    tau_min: int = Field(
        6, ge=1, le=10_000, description="least frames from the window to the frame that is out of order; 15 at 25 fps"
    )
    tau_max: int = Field(24, ge=2, le=10_000, description="most frames between the ends of the window; 60 at 25 fps")
    positives: float = Field(0.25, gt=0, lt=1, description="share of the tuples that are in order")
    hidden: tuple[Width, ...] = Field(
        (), description="widths of hidden layers between the joined frames and the answer"
    )
    scale: tuple[float, float] = Field(
        (0.5, 1.0), description="area of the random crop, one for the three frames, as a share of the image"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip, of all three frames")


class SiameseTripletOptions(ImageOptions):
    margin: float = Field(0.5, gt=0, description="how much nearer the end of a track is to be than a negative")
    negatives: Count = Field(4, description="negatives of each pair")
    random_epochs: float = Field(
        10.0, ge=0, description="epochs in which negatives are drawn at random, before the hardest are taken"
    )
    hidden: tuple[Width, ...] = Field((4096,), description="widths of the layers between backbone and embedding")
    width: Width = Field(1024, description="width of the embedding")
    scale: tuple[float, float] = Field((0.8, 1.0), description="area of the random crops, as a share of the patch")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip, of each patch by itself")


class TimeContrastiveOptions(ImageOptions):
    loss: Literal["triplet", "npairs"] = Field("triplet", description="how frames are compared")
    radius: int = Field(
        2, ge=1, le=10_000, description="most frames to a positive, half of the least to a negative; 0.2 seconds"
    )
    margin: float = Field(0.2, gt=0, description="how much nearer a positive is to be, of triplet")
    regularise: float = Field(0.002, ge=0, description="weight of the squared lengths, of npairs")
    other_sequences: bool = Field(False, description="frames of other videos in the batch are negatives too")
    convolutions: tuple[Width, ...] = Field((512, 512), description="channels of the convolutions after the backbone")
    hidden: Width = Field(2048, description="width of the layer before the embedding")
    width: Width = Field(32, description="width of the embedding")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of the hidden layer that is left out in training")
    view: ViewOptions = Field(
        default_factory=lambda: ViewOptions(
            scale=(0.33, 1.0), flip=0.0, jitter=(0.3, 0.3, 0.3, 0.05), greyscale_p=0.0, blur_p=0.0
        ),
        description="how each frame is shown",
    )


class VideoTransformerOptions(Options):
    """Options of the vision transformers of video."""

    tubelet: Count = Field(2, description="frames of a tubelet; must divide the clip's")
    patch_size: Pixels = Field(16, ge=1, description="side of a tubelet in pixels; must divide the frames' sides")
    depth: Depth = Field(12, ge=1, description="number of transformer blocks")
    width: Width | None = Field(None, description="width of the tokens; none: as the name says")
    heads: Depth | None = Field(None, ge=1, description="attention heads; none: as many as give each 64")


class VideoTransformerTinyOptions(VideoTransformerOptions):
    """Options of `video_vit_tiny`."""

    patch_size: Pixels = Field(8, ge=1, description="side of a tubelet in pixels; must divide the frames' sides")


class Conv3DOptions(Options):
    """Options of the convolutional network of video."""

    width: Width = Field(32, description="channels of the first block; each further one has twice as many")


class MaskedVideoOptions(ImageOptions):
    """Of methods that hide parts of a clip."""

    flip: float = Field(
        0.5, ge=0, le=1, description="probability of a horizontal flip; 0 where left and right are the matter"
    )


class VideoMAEOptions(MaskedVideoOptions):
    scale: tuple[float, float] = Field((0.5, 1.0), description="area of the random crop, as a share of the frame")
    ratio: float = Field(0.9, gt=0, lt=1, description="share of the places that are hidden, in all slots")
    decoder_width: Width = Field(384, description="width of the decoder")
    decoder_depth: Depth = Field(4, ge=1, description="blocks of the decoder")
    decoder_heads: Depth = Field(6, ge=1, description="attention heads of the decoder; must divide its width")


class MonodepthOptions(Options):
    scales: int = Field(4, ge=1, le=6, description="sizes at which disparity is told, each half of the one before")
    largest: float = Field(0.3, gt=0, le=1, description="largest disparity, as a share of the width")
    decoder_width: Width = Field(16, description="channels of the decoder at full size; at each half twice as many")
    smoothness: float = Field(0.1, ge=0, description="weight of how rough the disparity is")
    consistency: float = Field(1.0, ge=0, description="weight of how much the two sides disagree")
    flip: float = Field(0.5, ge=0, le=1, description="probability that a pair is mirrored and changes sides")
    vary: float = Field(0.5, ge=0, le=1, description="probability that gamma, brightness and colours vary")


class Monodepth2Options(Options):
    scales: int = Field(4, ge=1, le=6, description="sizes at which disparity is told, each half of the one before")
    decoder_width: Width = Field(16, description="channels of the decoder at full size; at each half twice as many")
    pose_widths: tuple[Width, ...] = Field(
        (16, 32, 64, 128, 256, 256, 256), min_length=1, description="channels of the pose network's convolutions"
    )
    gap: int = Field(1, ge=1, le=10_000, description="frames between a frame and its neighbours")
    focal_length: float = Field(
        0.58, gt=0, description="of the camera, as a share of the picture's width, where the data do not say"
    )
    smoothness: float = Field(0.001, ge=0, description="weight of how rough the disparity is")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip, of all frames")
    jitter: tuple[float, float, float, float] = Field(
        (0.2, 0.2, 0.2, 0.1), description="strengths of brightness, contrast, saturation and hue jitter"
    )


class VJEPAOptions(MaskedVideoOptions):
    scale: tuple[float, float] = Field((0.3, 1.0), description="area of the random crop, as a share of the frame")
    blocks: tuple[tuple[Count, float], ...] = Field(
        ((8, 0.15), (2, 0.7)), min_length=1, description="of each mask, how many blocks, and the share that one covers"
    )
    aspect: tuple[float, float] = Field((0.75, 1.5), description="height / width of a block")
    context: tuple[float, ...] = Field(
        (0.23, 0.06), min_length=1, description="of each mask, the share of the places that the encoder is shown"
    )
    predictor_width: Width = Field(384, description="width of the predictor")
    predictor_depth: Depth = Field(12, ge=1, description="blocks of the predictor")
    predictor_heads: Depth = Field(12, ge=1, description="attention heads of the predictor; must divide its width")
    momentum: schedules.Share = Field(
        default_factory=lambda: schedules.Linear(start=0.998, end=0.9996),
        description="of the target encoder's moving average, after each step",
    )

    @model_validator(mode="after")
    def _one_context_each(self) -> Self:
        if len(self.blocks) != len(self.context):
            raise ValueError(f"context: {len(self.context)} values for {len(self.blocks)} masks")
        return self
