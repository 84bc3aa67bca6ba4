"""SERE (Li, Gao, Cheng, "SERE: exploring feature self-relation for self-supervised transformer", TPAMI 2023)."""

import keras
import tensorflow as tf

from kzoo import augment, patches
from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization
from kzoo.method import Batch, Logs
from kzoo.random import fold_in
from kzoo_distillation.ibot import IBOT
from kzoo_distillation.parts.multicrop import LARGE
from kzoo_distillation.parts.relations import (
    channel_relations,
    relation_loss,
    sampled,
    shared_points,
    spatial_relations,
)
from kzoo_distillation.specs.sere import SEREOptions


class SERE(IBOT):
    """iBOT, and beside it: how an image's patches relate to each other in one view, they do in the other.

    At 13 x 13 points of what two large views share, features between the tokens are read from both, `[2B, 169, D]`, and
    projected (batch normalisation, ReLU); the student adds a predictor (Dense, batch normalisation, ReLU). Relations
    are dot products: of all points with each other, in 6 groups of features (spatial, `[6, 169, 169]`), and of all
    features over the points (channel, `[D, D]`). The student's relations in one view say, by a softmax over each row,
    what the teacher's in the other are, at a temperature of 0.5 (spatial) and 0.1 (channel). The loss is iBOT's times
    (4 - a - b) / 2, plus a = 0.2 times the spatial and b = 0.5 times the channel one. Views that share nothing count 0.

    After the optimizer's step the teacher follows, projection included. Downstream is the teacher.

    Deviations: as iBOT's; channel relations are means over the 169 points.
    """

    options: SEREOptions

    @staticmethod
    def pretext(batch: Batch, keys: tf.Tensor, options: SEREOptions) -> Batch:
        """iBOT's, and where each large view was cut, `[2B, 5]`: top, left, height, width in pixels, and if mirrored."""
        height, width = tf.shape(batch["image"])[1], tf.shape(batch["image"])[2]
        cut = []
        for number, view in enumerate((options.view_0, options.view_1)):
            own = fold_in(keys, f"large_{number}")  # which `augment.views` draws this view from
            box, flip = augment.draw_crops(own, height, width, view.scale), augment.draw_flips(own, view.flip)
            cut.append(tf.concat([tf.cast(box, tf.float32), tf.cast(flip, tf.float32)[:, None]], axis=1))
        boxes = tf.reshape(tf.stack(cut, axis=1), [-1, 5])
        return {**IBOT.pretext(batch, keys, options), "boxes": boxes}

    def build_heads(self) -> None:
        width = self.backbone.output["tokens"].shape[-1]
        if width % self.options.relation_heads:
            raise OptionsError(
                [f"{self.name}: relation_heads: {self.options.relation_heads} does not divide the width of {width}"]
            )
        norm, relu = BatchNormalization, keras.layers.ReLU
        self.projection = keras.Sequential([norm(name="norm"), relu(name="relu")], name="projection")
        dense = keras.layers.Dense(width, use_bias=False, name="dense")
        self.predictor = keras.Sequential([dense, norm(name="norm"), relu(name="relu")], name="predictor")
        for model in (self.projection, self.predictor):
            model.build((None, width))
        super().build_heads()

    def taught_heads(self) -> list[keras.Sequential]:
        return [*super().taught_heads(), self.projection]

    def points(self, tokens: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Features of the large views at the points that they share, `[2b, P, D]`."""
        places, _ = shared_points(tf.reshape(batch["boxes"], [-1, LARGE, 5]), self.options.points)
        places = tf.reshape(places, [-1, 2, self.options.points])
        return sampled(tokens, self.patches.grid(batch["large"]), places)

    def taught(self, seen: Batch, batch: Batch, training: bool) -> Batch:
        z = _each(self.teacher.models[2], self.points(seen["tokens"], batch), training)
        return {**super().taught(seen, batch, training), "taught_points": z}

    def said(self, seen: Batch, batch: Batch, training: bool) -> Batch:
        z = _each(self.projection, self.points(seen["tokens"], batch), training)
        return {**super().said(seen, batch, training), "points": _each(self.predictor, z, training)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """Features that are alike at all points: log 169 for the spatial relations."""
        options, logs = self.options, super().loss(outputs, batch)
        said, taught = outputs["points"], tf.cast(batch["taught_points"], outputs["points"].dtype)
        taught = tf.reshape(tf.reshape(taught, [-1, LARGE, *taught.shape[1:]])[:, ::-1], tf.shape(taught))
        taught = tf.ensure_shape(taught, said.shape)  # each view's partner in its place
        _, overlap = shared_points(tf.reshape(batch["boxes"], [-1, LARGE, 5]), options.points)
        counted = tf.cast(tf.repeat(overlap, LARGE), said.dtype)
        heads = options.relation_heads
        of_places = spatial_relations(taught, heads), spatial_relations(said, heads), options.spatial_temperature
        of_channels = channel_relations(taught), channel_relations(said), options.channel_temperature
        spatial, channel = (
            tf.reduce_mean(counted * relation_loss(*relations)) for relations in (of_places, of_channels)
        )
        a, b = options.spatial_weight, options.channel_weight
        loss = (4 - a - b) / 2 * logs["loss"] + a * spatial + b * channel
        return {**logs, "loss": loss, "spatial_loss": spatial, "channel_loss": channel}


def _each(model: keras.Sequential, z: tf.Tensor, training: bool) -> tf.Tensor:
    """A model for vectors, at every point `[n, P, D]`."""
    return patches.per_token(lambda rows: model(rows, training=training), z)
