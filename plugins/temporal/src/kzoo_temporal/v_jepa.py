"""V-JEPA (Bardes, Garrido, Ponce, Chen, Rabbat, LeCun, Assran, Ballas, "Revisiting feature prediction for learning
visual representations from video", 2024).
"""

import math

import keras
import numpy as np
import tensorflow as tf

from kzoo import patches, replicas
from kzoo.data import Source
from kzoo.losses import full_precision
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in
from kzoo.state import EMATeacher
from kzoo_temporal.options import VJEPAOptions
from kzoo_temporal.parts.blocks import hidden_places, some_of
from kzoo_temporal.parts.frames import asked
from kzoo_temporal.parts.predictor import TubeletPredictor
from kzoo_temporal.parts.tubelets import crop_clips, in_all_slots, tubelets_of

_ASKED = 256  # clips, about, that the figures are asked of


class VJEPA(Method):
    """From what is left of a clip, what a moving-average encoder says of the tubelets that are hidden.

    Clip `[B, T, h, w, C]`, one crop and flip for all frames. Two masks, both the same in all slots of time: eight
    blocks of 0.15 of the places, and two of 0.7, height / width 0.75 to 1.5; what they cover together is hidden. For
    each mask: backbone, on tubelets of the rest alone -> predictor, a narrow transformer with one learned vector for
    each kind of mask, 0 at first, and codes of the places -> what is said of each hidden tubelet, D numbers. The target
    encoder, an exponential moving average of the backbone, sees the whole clip once; its tokens are normalised over
    their features, without gradient. The loss is the mean |difference| over the hidden tubelets of a mask, and then
    over both masks. After the optimizer's step the target encoder follows. It goes downstream.

    Deviations: of the rest all clips keep as many places, int(`context` * places), at random, where the authors cut to
    the fewest of a batch, by index; a clip whose blocks leave fewer draws anew. Blocks are drawn for each clip, not for
    each batch; weight decay does not rise.
    """

    options: VJEPAOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: VJEPAOptions) -> Batch:
        size = options.size or tuple(batch["video"].shape[2:4])
        return {"video": crop_clips(batch["video"], seed, size, options.scale, options.flip)}

    def build_heads(self) -> None:
        options = self.options
        self.tubelets = tubelets_of(self.backbone, self.name)
        width = self.backbone.output["tokens"].shape[-1]
        sizes = options.predictor_width, options.predictor_depth, options.predictor_heads
        self.predictor = TubeletPredictor(
            width, *sizes, width, self.tubelets.grid, name="predictor", kinds=len(options.blocks), start=0.0
        )
        self.teacher = EMATeacher([self.backbone])

    @property
    def encoder(self) -> keras.Model:
        return self.teacher.models[0]

    def targets(self, batch: Batch, training: bool) -> tf.Tensor:
        """What the target encoder says of every tubelet, `[B, N, D]`, each normalised over its features."""
        tokens = full_precision(self.encoder(batch["video"], training=training)["tokens"])
        mean, variance = tf.nn.moments(tokens, axes=[-1], keepdims=True)
        return tf.stop_gradient((tokens - mean) * tf.math.rsqrt(variance + 1e-5))

    def train_step(self, batch: Batch) -> Logs:
        momentum = self.value(self.options.momentum)
        logs = self.minimise({**batch, "taught": self.targets(batch, training=True)})
        self.teacher.update(momentum)
        return logs

    def test_step(self, batch: Batch) -> Logs:
        return super().test_step({**batch, "taught": self.targets(batch, training=False)})

    def masks(self, seed: tf.Tensor, kind: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The places of the context, int32 `[B, k]`, and those that are hidden, bool `[B, h * w]`."""
        (blocks, share), kept = self.options.blocks[kind], self.options.context[kind]
        grid = self.tubelets.grid[1:]
        count = max(1, int(kept * grid[0] * grid[1]))
        keys = fold_in(fold_in(seed, "masks"), kind)
        hidden = hidden_places(keys, grid, blocks, share, self.options.aspect, count)
        return some_of(fold_in(keys, "kept"), ~hidden, count), hidden

    def forward(self, batch: Batch, training: bool) -> Batch:
        slots, rows, columns = self.tubelets.grid
        every = tf.repeat(tf.range(self.tubelets.count)[None], tf.shape(batch["video"])[0], axis=0)
        outputs = {}
        for kind in range(len(self.options.blocks)):
            places, hidden = self.masks(batch["seed"], kind)
            context = in_all_slots(places, self.tubelets)
            tokens = patches.encode_kept(self.backbone, batch["video"], context, training)["tokens"]
            hidden = tf.ensure_shape(tf.tile(hidden, [1, slots]), [None, slots * rows * columns])
            outputs[f"predicted_{kind}"] = self.predictor(tokens, context, every, kind=kind, visible=hidden)
            outputs[f"hidden_{kind}"] = hidden
        return outputs

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """Of an answer of 0: about 0.798. "spread" is the deviation of the targets over the clips, at most 1: near 0 it
        tells of collapse.
        """
        kinds = range(len(self.options.blocks))
        taught = tf.cast(batch["taught"], outputs["predicted_0"].dtype)
        costs = []
        for kind in kinds:
            error = tf.reduce_mean(tf.abs(outputs[f"predicted_{kind}"] - taught), axis=-1)
            hidden = tf.cast(outputs[f"hidden_{kind}"], error.dtype)
            costs.append(tf.reduce_mean(tf.reduce_sum(hidden * error, axis=1) / tf.reduce_sum(hidden, axis=1)))
        mean, square = replicas.mean([tf.reduce_mean(taught, 0), tf.reduce_mean(tf.square(taught), 0)])
        spread = tf.sqrt(tf.reduce_mean(tf.maximum(square - tf.square(mean), 0.0)))
        return {"loss": tf.add_n(costs) / len(costs), "spread": spread}

    def chance(self) -> dict[str, float]:
        """Of an answer of 0 where targets are normally distributed."""
        return {"loss": math.sqrt(2 / math.pi)}

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        """Of held-out clips: "prediction_error", the loss; "prediction_error_of_median", what the median target of each
        place costs, over clips of the training: who knows the place, but not the clip; and "target_spread", the mean
        deviation of the targets over clips. Where it is near 0 all clips are one to the encoder, and errors tell
        nothing.
        """
        usual = np.median([one for batch in asked(self, train, _ASKED) for one in self.targets(batch, False)], axis=0)
        costs, seen = [], []
        for batch in asked(self, test or train, _ASKED):
            taught, outputs = self.targets(batch, training=False), self.forward(batch, training=False)
            constant = {name: tf.broadcast_to(usual, taught.shape) for name in outputs if name.startswith("predicted")}
            both = outputs, {**outputs, **constant}
            costs.append([float(self.loss(one, {**batch, "taught": taught})["loss"]) for one in both])
            seen.append(taught.numpy())
        error, of_median = np.mean(costs, axis=0)
        return {
            "prediction_error": float(error),
            "prediction_error_of_median": float(of_median),
            "target_spread": float(np.sqrt(np.concatenate(seen).var(axis=0).mean())),
        }
