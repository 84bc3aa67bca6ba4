"""VideoMAE (Tong, Song, Wang, Wang, "VideoMAE: masked autoencoders are data-efficient learners for self-supervised
video pre-training", NeurIPS 2022).
"""

import numpy as np
import tensorflow as tf

from kzoo import patches
from kzoo.data import Source
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in, permutation
from kzoo_temporal.options import VideoMAEOptions
from kzoo_temporal.parts.frames import asked
from kzoo_temporal.parts.predictor import TubeletPredictor
from kzoo_temporal.parts.tubelets import crop_clips, in_all_slots, tubelets_of

_SMALL = 1e-6  # added to the deviation of a tubelet
_ASKED = 256  # clips, about, that the figures are asked of


class VideoMAE(Method):
    """From a tenth of a clip's tubelets, the pixels of the others.

    Clip `[B, T, h, w, C]`, one crop and flip for all frames. The same places are hidden in all slots of time, a tube,
    int(ratio * places) of them, others for each clip: what is hidden in one frame cannot be looked up in the next ->
    backbone, on the visible tubelets alone -> decoder, a narrow transformer that takes one learned vector for each
    hidden one, and codes of all places -> the t * p * p * C pixels of each hidden tubelet. Downstream is the backbone,
    on all of them.

    The loss is the mean squared error over hidden tubelets. Each is first brought to mean 0 and (unbiased) variance 1
    in each colour by itself; an answer of 0 then costs 1 - 1 / (t * p * p), less where one colour fills a tubelet:
    "variance" is what it costs.

    Deviations: positions are codes of three dimensions, the authors' number the tokens in a line; a random resized crop
    in place of a multi-scale one; the decoder answers for hidden tubelets only, as theirs is asked to.
    """

    options: VideoMAEOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: VideoMAEOptions) -> Batch:
        size = options.size or tuple(batch["video"].shape[2:4])
        return {"video": crop_clips(batch["video"], seed, size, options.scale, options.flip)}

    def build_heads(self) -> None:
        options = self.options
        self.tubelets = tubelets_of(self.backbone, self.name)
        deep, high, wide, channels = self.tubelets.shape
        sizes = options.decoder_width, options.decoder_depth, options.decoder_heads
        values = deep * high * wide * channels
        tokens = self.backbone.output["tokens"].shape[-1]
        self.decoder = TubeletPredictor(tokens, *sizes, values, self.tubelets.grid, name="decoder")

    def split(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The numbers of the visible tubelets and of the hidden ones, int32 `[B, k]` and `[B, N - k]`."""
        _, rows, columns = self.tubelets.grid
        order = permutation(fold_in(seed, "tubes"), rows * columns)
        hidden = min(int(self.options.ratio * rows * columns), rows * columns - 1)
        return in_all_slots(order[:, hidden:], self.tubelets), in_all_slots(order[:, :hidden], self.tubelets)

    def forward(self, batch: Batch, training: bool) -> Batch:
        kept, hidden = self.split(batch["seed"])
        seen = patches.encode_kept(self.backbone, batch["video"], kept, training)["tokens"]
        return {"hidden": hidden, "predicted": self.decoder(seen, kept, hidden)}

    def moments(self, video: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and unbiased deviation of each colour of each tubelet, `[B, N, 1, C]`."""
        pixels = self.tubelets.cut(video)
        mean, variance = tf.nn.moments(pixels, axes=[2], keepdims=True)
        return mean, tf.sqrt(variance * (pixels.shape[2] / (pixels.shape[2] - 1))) + _SMALL

    def target(self, video: tf.Tensor) -> tf.Tensor:
        """What is to be predicted of each tubelet, `[B, N, t * p * p * C]`."""
        mean, deviation = self.moments(video)
        values = (self.tubelets.cut(video) - mean) / deviation
        return tf.reshape(values, [-1, self.tubelets.count, int(np.prod(self.tubelets.shape))])

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        predicted = outputs["predicted"]
        wanted = tf.gather(tf.cast(self.target(batch["video"]), predicted.dtype), outputs["hidden"], batch_dims=1)
        return {
            "loss": tf.reduce_mean(tf.square(predicted - wanted)),
            "variance": tf.reduce_mean(tf.square(wanted)),
        }

    def rebuild(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """The clips as the backbone saw them, and with hidden tubelets as predicted, `[B, T, h, w, C]` in [0, 1].

        A prediction gets the mean and deviation of the true tubelet, which were not asked for.
        """
        outputs = self.forward(batch, training=False)
        pixels, hidden = self.tubelets.cut(batch["video"]), outputs["hidden"]
        mean, deviation = (tf.gather(one, hidden, batch_dims=1) for one in self.moments(batch["video"]))
        shape = [-1, hidden.shape[1], *pixels.shape[2:]]
        values = tf.cast(tf.reshape(outputs["predicted"], shape), pixels.dtype) * deviation + mean
        rows = tf.repeat(tf.range(tf.shape(hidden)[0])[:, None], hidden.shape[1], axis=1)
        places = tf.stack([rows, hidden], axis=-1)
        seen = tf.tensor_scatter_nd_update(pixels, places, tf.fill(tf.shape(values), tf.constant(0.5, pixels.dtype)))
        rebuilt = tf.tensor_scatter_nd_update(pixels, places, tf.clip_by_value(values, 0.0, 1.0))
        return self.tubelets.join(seen), self.tubelets.join(rebuilt)

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """Of held-out clips: "masked_error", the mean squared error of hidden pixels in [0, 1] where mean and deviation
        are given, and "masked_error_of_mean", that of the mean alone.
        """
        found = []
        for batch in asked(self, test or train, _ASKED):
            hidden = self.split(batch["seed"])[1]
            _, rebuilt = self.rebuild(batch)
            true = tf.gather(self.tubelets.cut(batch["video"]), hidden, batch_dims=1)
            said = tf.gather(self.tubelets.cut(rebuilt), hidden, batch_dims=1)
            means = tf.reduce_mean(true, axis=2, keepdims=True)
            found.append([float(tf.reduce_mean(tf.square(true - other))) for other in (said, means)])
        error, of_mean = np.mean(found, axis=0)
        return {"masked_error": float(error), "masked_error_of_mean": float(of_mean)}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray]:
        seen, rebuilt = self.rebuild(batch)
        return {"clip": batch["video"].numpy(), "seen": seen.numpy(), "rebuilt": rebuilt.numpy()}
