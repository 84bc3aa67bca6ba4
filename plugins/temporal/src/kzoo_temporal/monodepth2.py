"""Monodepth2 (Godard, Mac Aodha, Firman, Brostow, "Digging into self-supervised monocular depth estimation", ICCV
2019), from video of one camera.
"""

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment
from kzoo.data import Source, to_float
from kzoo.errors import OptionsError
from kzoo.method import Batch, Logs, Method
from kzoo.modality import Signature
from kzoo.random import fold_in, integers, normal
from kzoo_temporal.options import Monodepth2Options
from kzoo_temporal.parts.depth_figures import shown
from kzoo_temporal.parts.disparity import disparity_decoder, maps_of
from kzoo_temporal.parts.frames import asked
from kzoo_temporal.parts.geometry import depth_of, enlarge, pose_matrix, warp
from kzoo_temporal.parts.photometric import dissimilarity, roughness

_FRAMES = ("before", "now", "after")
_TIE = 1e-5  # deviation of what is added to the errors of frames that are not warped, so that ties are broken
_ASKED = 128  # clips, about, that the figures are asked of


class Monodepth2(Method):
    """From one frame its depth, and from two frames how the camera moved, so that each neighbour makes the frame.

    Frame now `[B, H, W, 3]` -> backbone -> decoder -> a sigmoid at four scales, each brought to full size: depth from
    0.1 to 100. Frames before and now, and now and after, joined in the order of time -> pose network -> axis-angle and
    movement, each times 0.01; of the first pair the inverse is taken. With depth and pose each neighbour is warped to
    now. Its error is 0.85 (1 - SSIM) / 2 + 0.15 |I - I'|, mean over colours, and each pixel takes the least of both
    neighbours' and of the same two unwarped: so what is hidden in one frame costs nothing, and what does not move, or
    moves with the camera, teaches nothing. To that comes 0.001 / 2^s times the roughness of disparity / its mean. The
    loss is the mean over the scales. Colours vary in what the networks see, not in what is compared.

    Where the data do not say the camera's intrinsics, `focal_length` is taken, and the centre of the picture.

    Deviations: the pose network is a small one of its own, drawn anew like the backbone; no reflection padding in the
    decoder; one camera, no stereo.
    """

    options: Monodepth2Options

    @staticmethod
    def choose(known: Batch, seed: tf.Tensor, options: Monodepth2Options) -> Batch:
        length, gap = known["time"].shape[1], options.gap
        if length < 2 * gap + 1:
            raise OptionsError([f"monodepth2: clips of {length} frames; gap {gap} needs at least {2 * gap + 1}"])
        now = integers(fold_in(seed, "frame"), (1,), gap, length - gap)
        return {"frame": now + tf.constant([-gap, 0, gap])}

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: Monodepth2Options) -> Batch:
        video = batch["video"]
        flip, ready = augment.draw_flips(seed, options.flip)[:, None, None, None], {}
        jitter = augment.draw_jitter(seed, *options.jitter, 0.5)
        for place, name in enumerate(_FRAMES):
            frame = to_float(video[:, place])
            frame = tf.where(flip, frame[:, :, ::-1], frame)
            ready |= {name: frame, f"seen_{name}": augment.jitter(frame, jitter)}
        usual = [options.focal_length, options.focal_length * video.shape[3] / video.shape[2], 0.5, 0.5]
        own = tf.repeat(tf.constant([usual], tf.float32), tf.shape(video)[0], axis=0)
        known = tf.cast(batch.get("intrinsics", own), tf.float32)
        mirrored = tf.concat([known[:, :2], 1.0 - known[:, 2:3], known[:, 3:]], axis=1)
        return {**ready, "intrinsics": tf.where(flip[:, :, 0, 0], mirrored, known)}

    def build_heads(self) -> None:
        self.maps = list(maps_of(self.backbone).values())
        self.decoder = disparity_decoder(self.backbone, self.options.decoder_width, 1, self.options.scales)
        height, width, channels = self.backbone.input_shape[1:]
        x = inputs = keras.Input((height, width, 2 * channels), name="frames")
        for index, units in enumerate(self.options.pose_widths):
            size = 7 if index == 0 else 3
            x = keras.layers.Conv2D(units, size, 2, padding="same", activation="relu", name=f"conv_{index}")(x)
        x = keras.layers.GlobalAveragePooling2D(name="mean")(keras.layers.Conv2D(6, 1, name="pose")(x))
        self.pose = keras.Model(inputs, x, name="pose_network")

    def sigmoids(self, images: tf.Tensor, training: bool) -> list[tf.Tensor]:
        outputs = self.backbone(images, training=training)
        return self.decoder({name: outputs[name] for name in self.maps}, training=training)

    def forward(self, batch: Batch, training: bool) -> Batch:
        before, now, after = (batch[f"seen_{name}"] for name in _FRAMES)
        found = {f"sigmoid_{scale}": one for scale, one in enumerate(self.sigmoids(now, training))}
        for name, pair in (("before", (before, now)), ("after", (now, after))):
            found[f"pose_{name}"] = 0.01 * self.pose(tf.concat(pair, axis=-1), training=training)
        return found

    def warped(self, outputs: Batch, batch: Batch, scale: int) -> list[tf.Tensor]:
        """Frames before and after as the depth at a scale says that they look from now."""
        size = batch["now"].shape[1:3]
        sigmoid = outputs[f"sigmoid_{scale}"]
        depth = depth_of(enlarge(sigmoid, size) if scale else sigmoid)[..., 0]
        made = []
        for name in ("before", "after"):
            turn, move = tf.split(outputs[f"pose_{name}"], 2, axis=-1)
            pose = pose_matrix(turn, move, invert=name == "before")
            made.append(warp(batch[name], depth, pose, tf.cast(batch["intrinsics"], pose.dtype)))
        return made

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """ "moving" is the share of pixels that a warped frame explains better than both unwarped."""
        precise = outputs["sigmoid_0"].dtype
        batch = {**batch, **{name: tf.cast(batch[name], precise) for name in _FRAMES}}
        now, totals = batch["now"], {"photometric": 0.0, "rough": 0.0, "moving": 0.0}
        scales = sum(name.startswith("sigmoid") for name in outputs)
        still = tf.stack([errors(now, batch[name]) for name in ("before", "after")], axis=-1)
        still += _TIE * tf.cast(normal(fold_in(batch["seed"], "ties"), still.shape[1:]), still.dtype)
        for scale in range(scales):
            moved = tf.stack([errors(now, image) for image in self.warped(outputs, batch, scale)], axis=-1)
            best, without = tf.reduce_min(moved, axis=-1), tf.reduce_min(still, axis=-1)
            totals["photometric"] += tf.reduce_mean(tf.minimum(best, without)) / scales
            totals["moving"] += tf.reduce_mean(tf.cast(best < without, best.dtype)) / scales
            sigmoid = outputs[f"sigmoid_{scale}"][..., 0]
            level = sigmoid / (tf.reduce_mean(sigmoid, axis=[1, 2], keepdims=True) + 1e-7)
            picture = tf.nn.avg_pool2d(now, 1 << scale, 1 << scale, "VALID")
            totals["rough"] += roughness(level, picture) / (scales * 2**scale)
        return {"loss": totals["photometric"] + self.options.smoothness * totals["rough"], **totals}

    def signatures(self) -> dict[str, Signature]:
        """`depth`: "depth" `[B, H, W]` of single frames, 0.1 to 100, in a unit that the data do not tell."""
        return {"depth": lambda images: {"depth": depth_of(self.sigmoids(images, training=False)[0])[..., 0]}}

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """Of held-out frames: "reprojection_error", the least of both warped neighbours' at each pixel, beside
        "identity_error", that of the same neighbours unwarped.
        """
        found = []
        for batch in asked(self, test or train, _ASKED):
            made = self.warped(self.forward(batch, training=False), batch, 0)
            pairs = made, [batch["before"], batch["after"]]
            least = [tf.reduce_min(tf.stack([errors(batch["now"], image) for image in some], -1), -1) for some in pairs]
            found.append([float(tf.reduce_mean(one)) for one in least])
        reprojected, identity = np.mean(found, axis=0)
        return {"reprojection_error": float(reprojected), "identity_error": float(identity)}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray]:
        outputs = self.forward(batch, training=False)
        made = self.warped(outputs, batch, 0)
        frames = {"before": batch["before"].numpy(), "now": batch["now"].numpy(), "now from before": made[0].numpy()}
        return {**frames, "inverse depth": shown(outputs["sigmoid_0"][..., 0].numpy())}


def errors(image: tf.Tensor, made: tf.Tensor) -> tf.Tensor:
    """0.85 (1 - SSIM) / 2 + 0.15 |I - I'| of each pixel, mean over colours, `[B, H, W]`; windows are mirrored at the
    border.
    """
    border = [[0, 0], [1, 1], [1, 1], [0, 0]]
    unlike = dissimilarity(tf.pad(image, border, "REFLECT"), tf.pad(made, border, "REFLECT"))
    return tf.reduce_mean(0.85 * unlike + 0.15 * tf.abs(image - made), axis=-1)
