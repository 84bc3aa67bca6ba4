"""Video files and stereo pairs: which frames are read, what is left out and why, and that it is prepared once."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import tensorflow as tf
from kzoo_temporal.data import frames, samples, video_files
from kzoo_temporal.data.clips import video_source
from kzoo_temporal.data.frames import Index, index_of, read_frames
from kzoo_temporal.data.samples import rectified
from kzoo_temporal.data.stereo_files import stereo_files
from kzoo_temporal.examples import PAIRS, VIDEOS
from kzoo_temporal.modalities import VIDEO
from kzoo_temporal.options import PairsOptions, StereoFileOptions, VideoFileOptions
from PIL import Image

from kzoo.data import evaluation_batches, training_stream
from kzoo.errors import DataError, NoSplit
from kzoo.evaluate.features import embed_all
from kzoo.plugins import targets
from kzoo.recipe.load import load
from kzoo.runs import plan
from kzoo.runs.build import input_shape, side
from kzoo.runs.report import _batches
from kzoo.testing.tiny import tiny_backbone

RATE, COUNT = 25, 60
SPLITS = ("train", "test")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))


def write_video(path: Path, count=COUNT, ticks=None, every=20) -> Path:
    """Frame i has the bits of i as eight white or black columns; key frames at every `every`-th."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 64, "yuv420p", every
        stream.options = {"sc_threshold": "1000000000"}  # no further key frames where the picture changes
        stream.codec_context.time_base = Fraction(1, RATE)
        stream.codec_context.qmin = stream.codec_context.qmax = 1
        for number in range(count):
            bits = np.repeat(number >> np.arange(8) & 1, 8)[None, :, None] * np.ones((64, 64, 3))
            frame = av.VideoFrame.from_ndarray((255 * bits).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = (ticks[number] if ticks is not None else number), Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def number_of(pixels) -> np.ndarray:
    """The number of each frame, from its columns."""
    columns = np.asarray(pixels, float).mean(axis=(-3, -1))
    return ((columns.reshape(*columns.shape[:-1], 8, -1).mean(axis=-1) > 127) << np.arange(8)).sum(axis=-1)


def read(source):
    """Video, label and the numbers of the frames of each clip."""
    for batch in source.examples().batch(8).map(source.decode).as_numpy_iterator():
        yield from zip(batch["clip"].tolist(), batch["label"].tolist(), number_of(batch["video"]), strict=True)


def options(**values):
    return VideoFileOptions(**{"size": 16, "fps": 5, "length": 3, "step": 1, "shots": False, **values})


class TestFrames:
    def test_the_index_has_every_frame_and_where_decoding_can_begin(self, tmp_path):
        index = index_of(write_video(tmp_path / "a.mp4"))
        np.testing.assert_allclose(index.seconds, np.arange(COUNT) / RATE, atol=1e-6)
        assert list(np.flatnonzero(index.key)) == [0, 20, 40]

    def test_exactly_the_chosen_frames_are_read(self, tmp_path):
        path = write_video(tmp_path / "a.mp4")
        index, chosen = index_of(path), np.array([3, 4, 4, 41, 59])
        out = np.zeros((5, 16, 16, 3), np.uint8)
        assert read_frames(path, index, chosen, out) == 5
        np.testing.assert_array_equal(number_of(out), chosen)

    def test_what_lies_before_a_key_frame_is_not_decoded(self, tmp_path, monkeypatch):
        path = write_video(tmp_path / "a.mp4")
        index, decoded = index_of(path), []
        fitted = frames._fitted
        monkeypatch.setattr(frames, "_fitted", lambda frame, *size: decoded.append(frame.pts) or fitted(frame, *size))
        sought = []
        opened = frames._opened

        class Spy:
            def __init__(self, container):
                self.container, self.streams = container, container.streams

            def seek(self, tick, **more):
                sought.append(tick)
                return self.container.seek(tick, **more)

            def decode(self, stream):
                return self.container.decode(stream)

        class Opened:
            def __init__(self, path):
                self.manager = opened(path)

            def __enter__(self):
                return Spy(self.manager.__enter__())

            def __exit__(self, *error):
                return self.manager.__exit__(*error)

        monkeypatch.setattr(frames, "_opened", Opened)
        out = np.zeros((2, 16, 16, 3), np.uint8)
        read_frames(path, index, np.array([1, 45]), out)
        assert sought == [index.ticks[40]]
        assert len(decoded) == 2
        np.testing.assert_array_equal(number_of(out), [1, 45])

    def test_at_a_rate_the_last_frame_that_has_begun_is_seen(self):
        seconds = np.array([0.0, 0.1, 0.5, 0.55, 1.0])  # one is shown for long
        index = Index(np.arange(5), seconds, np.ones(5, bool))
        np.testing.assert_array_equal(index.at_rate(5), [0, 1, 1, 3, 3, 4])
        np.testing.assert_array_equal(index.at_rate(None), np.arange(5))

    def test_a_variable_frame_rate_gives_even_clips(self, tmp_path):
        ticks = np.cumsum(np.where(np.arange(COUNT) < 30, 1, 5))  # 25 a second, then 5
        path = write_video(tmp_path / "a.mkv", ticks=ticks)
        index = index_of(path)
        chosen = index.at_rate(5)
        assert list(np.diff(chosen)[:5]) == [5] * 5
        assert set(np.diff(chosen)[-20:]) == {1}
        out = np.zeros((len(chosen), 8, 8, 3), np.uint8)
        assert read_frames(path, index, chosen, out) == len(chosen)
        np.testing.assert_array_equal(number_of(out), chosen)

    def test_frames_are_scaled_to_cover_and_cut_in_the_middle(self, tmp_path):
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[:, 16:48] = 255  # the middle square is white
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        assert frames._fitted(frame, 32, 32).min() > 250
        assert frames._fitted(frame, 16, 32).shape == (16, 32, 3)


class TestShots:
    def test_a_cut_is_a_change_that_its_neighbours_do_not_share(self):
        frames = np.full((12, 4, 4, 3), 100, np.uint8)
        frames[4:] = 200  # a cut
        frames[7] = 255  # a flash: two changes beside each other
        frames[9:] += np.arange(3, dtype=np.uint8)[:, None, None, None]  # a slow change
        assert video_files.cuts(frames).tolist() == [4]
        assert video_files.cuts(frames[:1]).tolist() == []

    def test_fast_movement_is_no_cut(self):
        frames = np.repeat(np.arange(0, 250, 50, dtype=np.uint8), 48).reshape(5, 4, 4, 3)  # by a fifth each time
        assert video_files.cuts(frames).tolist() == []

    def test_shots_are_videos_of_their_own(self, tmp_path, monkeypatch):
        write_video(tmp_path / "v" / "cat" / "a.mp4")
        write_video(tmp_path / "v" / "dog" / "b.mp4", count=20)
        monkeypatch.setattr(video_files, "cuts", lambda pixels: np.array([20, 30][: len(pixels) // 20 - 1], int))
        chosen = {"fps": None, "shots": True, "length": 4, "test_fraction": 0.4}
        train, test = (video_files.video_files(str(tmp_path / "v"), split, options(**chosen)) for split in SPLITS)
        spans = {}
        for source in (train, test):
            for clip, label, numbers in read(source):
                spans.setdefault((clip, label), []).append((numbers.min(), numbers.max()))
        found = {key: (min(a for a, _ in span), max(b for _, b in span)) for key, span in spans.items()}
        assert set(found) == {(0, 0), (1, 0), (2, 0), (3, 1)}
        assert found[0, 0] == (0, 19)
        assert found[1, 0] == (20, 29)
        assert found[3, 1] == (0, 19)
        held = [numbers for clip, _, numbers in read(test) if clip == 0]
        assert min(map(min, held)) == 12  # the end of the shot, not of the file


class TestVideoFiles:
    def test_the_beginning_trains_and_the_end_tests(self, tmp_path):
        path = write_video(tmp_path / "v" / "a.mp4")  # 2.4 s: 12 frames at 5 a second
        train, test = (
            video_files.video_files(str(path), split, options(test_fraction=0.25)) for split in ("train", "test")
        )
        assert (train.size, test.size) == (9 - 2, 3 - 2)
        last = train.decode(tf.constant([train.size - 1]))
        np.testing.assert_array_equal(number_of(last["video"][0]), [30, 35, 40])
        np.testing.assert_array_equal(number_of(test.decode(tf.constant([0]))["video"][0]), [45, 50, 55])
        np.testing.assert_allclose(last["time"][0], [1.2, 1.4, 1.6], atol=1e-6)
        assert train.facts.element["video"] == ((3, 16, 16, 3), "uint8")
        with pytest.raises(NoSplit, match="no split 'val'; it has train, test"):
            video_files.video_files(str(path), "val", options())

    def test_folders_are_classes(self, tmp_path):
        for name in ("run/a.mp4", "run/b.mp4", "walk/c.mp4"):
            write_video(tmp_path / "v" / name)
        source = video_files.video_files(str(tmp_path / "v"), "train", options())
        assert source.classes == ("run", "walk")
        batch = source.decode(tf.range(source.size, dtype=tf.int64))
        np.testing.assert_array_equal(batch["label"], np.where(batch["clip"] == 2, 1, 0))
        assert source.census["used"] == 3

    def test_folders_that_are_splits(self, tmp_path):
        write_video(tmp_path / "v" / "test" / "x" / "a.mp4", count=30)
        write_video(tmp_path / "v" / "train" / "x" / "b.mp4")
        sizes = [video_files.video_files(str(tmp_path / "v"), split, options()).size for split in ("train", "test")]
        assert sizes == [12 - 2, 6 - 2]

    def test_what_cannot_be_read_is_named_with_its_reason(self, tmp_path):
        folder = tmp_path / "v"
        write_video(folder / "good.mp4")
        (folder / "empty.mp4").touch()
        (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
        whole = write_video(folder / "cut.mp4").read_bytes()
        (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
        with wave.open(str(folder / "song.wav"), "wb") as song:
            song.setnchannels(1)
            song.setsampwidth(2)
            song.setframerate(8000)
            song.writeframes(bytes(1600))
        (folder / "song.wav").rename(folder / "song.avi")
        with pytest.raises(DataError, match="4 broken files") as error:
            video_files.video_files(str(folder), "train", options())
        told = str(error.value)
        assert "empty.mp4 (an empty file)" in told
        assert "song.avi (audio alone, no video)" in told
        assert "noise.mp4 (no video that FFmpeg can read" in told
        assert "cut.mp4 (no video that FFmpeg can read" in told
        with pytest.warns(UserWarning, match="left out 4 broken files"):
            source = video_files.video_files(str(folder), "train", options(skip_broken=True))
        assert len(source.census["broken"]) == 4
        assert set(source.decode(tf.range(source.size, dtype=tf.int64))["clip"].numpy()) == {0}

    def test_too_short_a_video_is_told(self, tmp_path):
        path = write_video(tmp_path / "a.mp4", count=10)
        with pytest.raises(DataError, match="no clip of 8 frames; the longest part has 2"):
            video_files.video_files(str(path), "train", options(length=8))

    def test_a_second_start_decodes_nothing_and_a_changed_file_is_read_again(self, tmp_path, monkeypatch):
        path = write_video(tmp_path / "a.mp4")
        first = video_files.video_files(str(path), "train", options())
        calls = []
        monkeypatch.setattr(video_files, "read_frames", lambda *args: calls.append(args) or read_frames(*args))
        again = video_files.video_files(str(path), "train", options(length=4))  # other clips of the same frames
        assert not calls
        assert again.digest != first.digest
        write_video(path, count=COUNT - 10)
        assert video_files.video_files(str(path), "train", options()).digest != first.digest
        assert len(calls) == 1

    def test_a_stream_that_starts_within_an_epoch_equals_one_that_ran_up_to_it(self, tmp_path):
        source = video_files.video_files(str(write_video(tmp_path / "a.mp4")), "train", options())
        settings = {"batch_size": 3, "seed": 1}
        through = list(training_stream(source, lambda batch, keys: (batch, keys), **settings).take(5))
        resumed = training_stream(source, lambda batch, keys: (batch, keys), start_step=4, **settings)
        for one, other in zip(tf.nest.flatten(through[4]), tf.nest.flatten(next(iter(resumed))), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_it_is_found_by_name(self, tmp_path):
        write_video(tmp_path / "a.mp4")
        source = targets.open_dataset(f"video:{tmp_path}", "train", size=16, fps=5, length=3)
        assert source.modality == "video"


def test_an_image_encoder_is_given_the_middle_frame():
    pixels = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((6, 8, 8, 3), np.uint8)
    source = video_source("v", pixels, np.arange(6) / 10, np.array([0, 3]), 3, np.array([0, 0]))
    [batch] = evaluation_batches(source, 2, key="image")
    np.testing.assert_allclose(batch["image"][:, 0, 0, 0] * 255, [1, 4], atol=1e-4)
    [batch] = evaluation_batches(source, 2, size=8)
    assert batch["video"].shape == (2, 3, 8, 8, 3)


class TestStereo:
    def write(self, folder, names, size=(40, 20)):
        folder.mkdir(parents=True)
        for number, name in enumerate(names):
            Image.new("RGB", size, (number, 0, 0)).save(folder / name)

    def test_pairs_are_found_by_name(self, tmp_path):
        for split in ("train", "test"):
            self.write(tmp_path / "s" / split / "left", ["a.png", "b.png"])
            self.write(tmp_path / "s" / split / "right", ["a.png", "b.png"])
        source = stereo_files(str(tmp_path / "s"), "train", StereoFileOptions(size=16, width=32))
        batch = source.decode(tf.constant([0, 1], tf.int64))
        assert batch["right"].shape == (2, 16, 32, 3)
        np.testing.assert_array_equal(batch["left"][:, 3, 3, 0], [0, 1])
        np.testing.assert_array_equal(batch["left"], batch["right"])

    def test_without_a_partner_or_of_another_size_is_named(self, tmp_path):
        self.write(tmp_path / "left", ["a.png", "b.png", "c.png"])
        self.write(tmp_path / "right", ["a.png", "c.png"])
        Image.new("RGB", (10, 10)).save(tmp_path / "right" / "c.png")
        with pytest.raises(DataError) as error:
            stereo_files(str(tmp_path), "train", StereoFileOptions(size=16, test_fraction=0.01))
        assert "left/b.png (no picture of this name in right)" in str(error.value)
        assert "left/c.png ((40, 20) pixels on the left, (10, 10) on the right)" in str(error.value)

    def test_no_pair_is_told(self, tmp_path):
        with pytest.raises(DataError, match="holds no pair"):
            stereo_files(str(tmp_path), "train", StereoFileOptions())

    def test_the_true_disparity_has_the_sign_that_is_said(self):
        """The right picture at x - d is the left one at x; unmoved, or moved the other way, it is far from it."""
        pair = {key: value.astype("float32") for key, value in rectified("motorcycle", 192).items()}
        known = pair["disparity"] > 0

        def error(sign):
            columns = np.clip(np.arange(285) + sign * pair["disparity"], 0, 284).round().astype(int)
            moved = np.take_along_axis(pair["right"], columns[..., None].repeat(3, axis=2), axis=1)
            return np.abs(moved - pair["left"])[known].mean()

        assert error(-1) < 12
        assert min(error(0), error(1)) > 30


def test_the_samples_train_and_test_on_other_times():
    train, test = (targets.open_dataset("clips", split, size=16, names=("carphone",)) for split in ("train", "test"))
    ends = [source.decode(tf.range(source.size, dtype=tf.int64))["time"].numpy() for source in (train, test)]
    assert ends[0].max() < ends[1].min()
    train, test = (targets.open_dataset("pairs", split) for split in ("train", "test"))
    assert train.size > test.size > 0


def test_an_image_encoder_is_evaluated_on_left_pictures_and_middle_frames():
    """Whatever the modality's own key is."""
    encoder = tiny_backbone((32, 32, 3))
    left, middle = lambda raw: raw["left"], lambda raw: raw["video"][:, 4]
    for source, picture in ((PAIRS.source(32, 3), left), (VIDEOS.source(32, 3), middle)):
        found = embed_all(encoder, _batches(source, 8, 32, encoder), ["embedding"])["embedding"]
        raw = source.decode(tf.constant(found.ids))
        expected = encoder(tf.cast(picture(raw), tf.float32) / 255)["embedding"]
        np.testing.assert_allclose(found.features, expected, atol=1e-5)


def test_pixels_that_were_read_are_not_kept_in_memory(tmp_path):
    """64 MiB on disk; read plainly, which is the control, they all stay resident."""

    def resident():
        return int(Path("/proc/self/smaps_rollup").read_text().partition("Rss:")[2].split()[0]) / 1024

    shape = (1024, 128, 128, 4)
    np.zeros(shape, np.uint8).tofile(tmp_path / "frames.raw")
    pixels = np.memmap(tmp_path / "frames.raw", np.uint8, "r", shape=shape)
    first = np.arange(0, 1024, 8)
    source = video_source("long", pixels, np.arange(1024.0), first, 8, np.zeros(len(first)))
    before = resident()
    for number in range(len(first)):
        assert source.decode(tf.constant([number]))["video"].shape == (1, 8, 128, 128, 4)
    assert resident() - before < 24
    assert pixels.sum() == 0
    assert resident() - before > 48


def test_crops_of_a_pair_test_what_training_shows_on_neither_side(monkeypatch):
    """Each pixel says its column in the left picture, and of the right one, 6 pixels on, what it shows."""
    column = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    pair = {"left": column, "right": column + 6, "disparity": np.full((40, 100), 5.5, np.float32)}
    monkeypatch.setattr(samples, "rectified", lambda name, height, stretch: pair)
    options = PairsOptions(height=40, size=32, width=16, stride=8, test_fraction=0.4)
    train, test = (samples.pairs(split, options).decode(tf.range(4, dtype=tf.int64)) for split in ("train", "test"))
    assert max(train["left"].numpy().max(), train["right"].numpy().max()) < 66 <= test["left"].numpy().min()
    assert train["left"].numpy().min() == 0
    assert test["left"].shape == (4, 32, 16, 3)


def test_a_clip_is_evaluated_at_the_height_of_its_frames_not_at_their_number():
    recipe = load(Path(__file__).parents[3] / "recipes" / "clips" / "video_mae.yaml")
    source = VIDEOS.source(32, 3)
    assert input_shape(recipe, source) == (8, 32, 32, 3)
    assert side(recipe, source) == 32


def test_pairs_that_are_not_square_are_told_by_what_can_be_set():
    recipe = load(Path(__file__).parents[3] / "recipes" / "pairs" / "monodepth.yaml")
    with pytest.raises(DataError, match=r"images of 256 x 512 pixels; let data\.options make them square"):
        plan.view_size(recipe, "pairs", 256, 512)


def test_clips_that_a_method_returns_are_animated_beside_each_other(tmp_path):
    clips = np.zeros((2, 3, 64, 64, 3), np.float32)
    clips[:, 1] = 1.0
    VIDEO.animate(tmp_path / "a.webp", {"clip": clips, "rebuilt": 1.0 - clips, "said": ["", ""]})
    with Image.open(tmp_path / "a.webp") as image:
        assert (image.size, image.n_frames) == ((256, 256), 3)  # two columns, two rows, each twice as large
        image.seek(1)
        assert np.asarray(image.convert("L"))[:, ::128].mean(axis=0).tolist() == [255, 0]
    VIDEO.animate(tmp_path / "none.webp", {"first": clips[:, 0]})
    assert not (tmp_path / "none.webp").exists()
