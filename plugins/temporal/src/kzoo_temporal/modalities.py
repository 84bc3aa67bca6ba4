"""Video and stereo pairs as kinds of data.

Video: uint8 `[T, H, W, C]` with the seconds at which each frame is shown, how much moves from each to the next, and the
number of its video. A method may ask for some frames, "frame" `[k]`: then "video" and "time" are of these alone. A
backbone of video takes float `[B, T, H, W, C]` in [0, 1], one of images the middle frame. Stereo: uint8 `[H, W, C]`
twice, "left" and "right", rectified; a backbone takes the left one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from kzoo.data import Batch, Source, resize_and_crop, to_float
from kzoo.errors import ExportError
from kzoo.evaluate import figures
from kzoo.export.preprocess import require
from kzoo.export.signature import as_float32
from kzoo.modality import CheckExamples, Modality, Served, Shown, Signature
from kzoo.specs import DataFacts

_BLANK = 32  # frames of a clip that builds a method of which nothing is known
_PER_FRAME = 250  # milliseconds that an animation shows each frame
_ROWS = 4  # examples of an animation
_SIDE = 128  # pixels, about, of a frame in it


class Video(Modality):
    key = "video"

    def element(self, source: Source) -> dict[str, tuple[tuple[int, ...], str]]:
        return {
            "video": ((source.length, *source.image_shape), "uint8"),
            "time": ((source.length,), "float32"),
            "motion": ((source.length - 1,), "float32"),
            "clip": ((), "int64"),
        }

    def take(self, batch: Batch, asked: Batch) -> Batch:
        if "frame" not in asked:
            return batch
        return {**batch, **{name: tf.gather(batch[name], asked["frame"], batch_dims=1) for name in ("video", "time")}}

    def describe(self, source: Source) -> str:
        return f"clips of {source.length} frames of {' x '.join(map(str, source.image_shape))}"

    def input_shape(self, source: Source, sides: tuple[int, int] | None) -> tuple[int, ...]:
        return source.length, *(sides or source.image_shape[:2]), source.image_shape[2]

    def ready(self, batch: Batch, size: int | None, key: str) -> Batch:
        video = batch["video"]
        if key != "video":
            image = to_float(video[:, video.shape[1] // 2])
            return {**batch, key: image if size is None else resize_and_crop(image, size)}
        video = to_float(video)
        if size is not None and tuple(video.shape[2:4]) != (size, size):
            frames = resize_and_crop(tf.reshape(video, [-1, *video.shape[2:]]), size)
            video = tf.reshape(frames, [-1, video.shape[1], *frames.shape[1:]])
        return {**batch, "video": video}

    def blank(self, facts: DataFacts, input_shape: tuple[int | None, ...], size: int) -> dict[str, np.ndarray]:
        known = facts.element["video"][0][0] if "video" in facts.element else None
        length = known or (input_shape[0] if len(input_shape) == 4 else None) or _BLANK
        sides = [side or size for side in input_shape[-3:-1]]
        return {
            "video": np.zeros((2, length, *sides, input_shape[-1] or 3), "uint8"),
            "time": np.zeros((2, length), "float32"),
            "motion": np.zeros((2, length - 1), "float32"),
            "clip": np.zeros(2, "int64"),
        }

    def show(self, path: Path, shown: Shown) -> None:
        video = np.asarray(shown.raw["video"])
        figures.views(path, video, _pictures(shown))
        write_webp(path.with_suffix(".webp"), [video])

    def animate(self, path: Path, predicted: Mapping[str, Any]) -> None:
        if clips := [value for value in predicted.values() if isinstance(value, np.ndarray) and value.ndim == 5]:
            write_webp(path, clips)

    def thumbnails(self, batch: Batch) -> np.ndarray:
        video = np.asarray(batch["video"])
        return video[:, video.shape[1] // 2]

    def serve(
        self,
        backbone: keras.Model,
        *,
        size: tuple[int, ...] | None,
        vocabulary: Sequence[str],
        bits: int,
        further: Mapping[str, Signature],
    ) -> Served:
        shape = tuple(backbone.input_shape[1:])
        if len(shape) != 4 or None in shape:
            raise ExportError(f"backbone {backbone.name!r}: an export needs video [T,H,W,C]. Received: {shape}")
        if "serving_default" in further:
            raise ExportError("signature 'serving_default' is the backbone's own; give yours another name")

        def embed(video: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"embedding": backbone(video, training=False)["embedding"]}

        answers: dict[str, Signature] = {"serving_default": embed, **further}
        length, height, width, channels = shape
        facts = {"frames": length, "height": height, "width": width, "channels": channels, "type": "uint8"}
        return Served(
            functions={name: _on_video(name, answer, shape) for name, answer in answers.items()},
            samples=np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8),
            takes=lambda video: video.astype(np.float32) / 255,
            facts=facts,
            blurred=lambda video: np.nextafter(video, np.float32(1)),
        )

    def examples(self) -> CheckExamples:
        from kzoo_temporal.examples import VIDEOS  # the suite is not there when a model is served

        return VIDEOS


class Stereo(Modality):
    key = "left"

    def element(self, source: Source) -> dict[str, tuple[tuple[int, ...], str]]:
        shape = tuple(source.image_shape)
        return {"left": (shape, "uint8"), "right": (shape, "uint8")}

    def describe(self, source: Source) -> str:
        return f"stereo pairs of {' x '.join(map(str, source.image_shape))}"

    def input_shape(self, source: Source, sides: tuple[int, int] | None) -> tuple[int, ...]:
        return (*(sides or source.image_shape[:2]), source.image_shape[2])

    def ready(self, batch: Batch, size: int | None, key: str) -> Batch:
        left = to_float(batch["left"])
        return {**batch, key: left if size is None else resize_and_crop(left, size)}

    def blank(self, facts: DataFacts, input_shape: tuple[int | None, ...], size: int) -> dict[str, np.ndarray]:
        shape = (2, *[side or size for side in input_shape[:2]], input_shape[-1] or 3)
        return {"left": np.zeros(shape, "uint8"), "right": np.zeros(shape, "uint8")}

    def show(self, path: Path, shown: Shown) -> None:
        right = {"right": np.asarray(shown.raw["right"])}
        figures.views(path, np.asarray(shown.raw["left"]), {**right, **_pictures(shown)})

    def thumbnails(self, batch: Batch) -> np.ndarray:
        return np.asarray(batch["left"])

    def serve(self, backbone: keras.Model, **_: Any) -> Served:
        raise ExportError(f"backbone {backbone.name!r}: takes pairs; export one of images, which takes either picture")

    def examples(self) -> CheckExamples:
        from kzoo_temporal.examples import PAIRS

        return PAIRS


def write_webp(path: Path, columns: Sequence[np.ndarray]) -> None:
    """Clips as one endless animation: an example in each row, and beside each other its clip of every column.

    columns: `[n, T, H, W, C]` of the same sizes, uint8, or float in [0, 1]; at most four examples are shown.
    """
    grids = []
    for clips in columns:
        pixels = clips[:_ROWS] if clips.dtype == np.uint8 else (np.clip(clips[:_ROWS], 0, 1) * 255).astype(np.uint8)
        grids.append(np.concatenate(list(np.repeat(pixels, 3 // pixels.shape[-1], axis=-1)), axis=1))
    wide = np.concatenate(grids, axis=2)
    scale = max(1, _SIDE // columns[0].shape[2])
    frames = [Image.fromarray(frame.repeat(scale, axis=0).repeat(scale, axis=1)) for frame in wide]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=_PER_FRAME, loop=0, quality=80)


def _pictures(shown: Shown) -> dict[str, np.ndarray]:
    """Every picture and clip in what the pretext made."""
    several = {
        name: value.numpy()
        for name, value in shown.ready.items()
        if value.dtype.is_floating and value.shape.rank == 5 and value.shape[0] == shown.count
    }
    return {**several, **figures.pictures_of(shown.ready, shown.count)}


def _on_video(name: str, answer: Signature, shape: tuple[int, ...]) -> Any:
    """Trace `answer` over uint8 `video` [None,T,H,W,C]."""

    @tf.function(input_signature=[tf.TensorSpec([None, *shape], tf.uint8, name="video")], autograph=False)
    def serve(video: tf.Tensor) -> dict[str, tf.Tensor]:
        video = tf.ensure_shape(video, [None, *shape])
        video = require(tf.shape(video)[0] > 0, video, "video: an empty batch")
        return as_float32(name, answer(tf.cast(video, tf.float32) / 255.0))

    return serve.get_concrete_function()


VIDEO = Video()
STEREO = Stereo()
