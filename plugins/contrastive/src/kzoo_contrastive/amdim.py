"""AMDIM (Bachman, Hjelm, Buchwalter, "Learning representations by maximizing mutual information across views", NeurIPS
2019).
"""

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, sums
from kzoo.data import resize_and_crop, to_float
from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization
from kzoo.method import Batch, Logs, Method
from kzoo.random import bernoulli, fold_in, integers
from kzoo_contrastive.encoders.amdim_encoder import TORCH_UNIFORM
from kzoo_contrastive.parts.local_scores import NearIdentity, location_nce, pair_scores
from kzoo_contrastive.specs.amdim import AMDIMOptions


class AMDIM(Method):
    """Features at several scales of one view predict those of another view of the same image.

    Two views, mirrored together or not at all, `[B, h, w, C]` -> backbone -> f1, the embedding `[B, D]`, and two
    feature maps, by default f5 `[B, 5, 5, .]` and f7 `[B, 7, 7, .]`, each through a head of its own to `[B, ., ., D]`.
    Three tasks, in both directions: f1 finds its image's locations in the other view's f5, and in its f7, and one
    random location of f5 finds those in the other f5, among the locations of all other images. A score is
    <source, target> / sqrt(D), drawn towards 0 by 4e-2 mean(score^2), and only then clipped to c tanh(score / c).

    `amdim_encoder` has maps of 7 and 5 pixels and pads nothing. Any backbone with two maps of different sides will do:
    name them in `local_sides`; but where it pads, or its locations see all of the image, the tasks are easier.
    Deviation: the released code trains linear and MLP classifiers on the detached f1 alongside; here the probes follow
    when training is over.
    """

    options: AMDIMOptions
    least_examples = 2

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: AMDIMOptions) -> Batch:
        size = options.size or batch["image"].shape[1]
        flip = augment.draw_flips(fold_in(seed, "flip"), options.view.flip)[:, None, None, None]
        images = tf.where(flip, batch["image"][:, :, ::-1], batch["image"])  # before both views, so that they share it
        view = options.view.model_dump() | {"flip": 0.0, "ratio": (0.7, 1.4)}
        if options.crop == "shift":
            images = resize_and_crop(to_float(images), size)
            view |= {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}

        def look(key: tf.Tensor) -> tf.Tensor:
            if options.crop == "resized":
                return augment.view(images, key, size, **view)
            moved = augment.pad_crop(images, key, padding=size // 8, flip=0.0)  # 4 of 32 pixels
            chosen = bernoulli(fold_in(key, "shift"), 0.8)[:, None, None, None]
            return augment.view(tf.where(chosen, moved, images), key, size, **view)

        return {"view_0": look(fold_in(seed, "view_0")), "view_1": look(fold_in(seed, "view_1"))}

    def build_heads(self) -> None:
        coarse, fine = self.options.local_sides
        self.maps = {"coarse": self._map_of_side(coarse), "fine": self._map_of_side(fine)}
        self.heads = {name: self._head(self.backbone.output[key], name) for name, key in self.maps.items()}

    def _map_of_side(self, side: int) -> str:
        """The name of the backbone's last map of `side` x `side`. Raises OptionsError where there is none."""
        shapes = {name: value.shape[1:3] for name, value in self.backbone.output.items() if name.startswith("map")}
        fitting = [name for name, shape in shapes.items() if tuple(shape) == (side, side)]
        if fitting:
            return "map" if "map" in fitting else max(fitting)
        found = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sorted(shapes.items()))
        raise OptionsError(
            f"amdim: backbone '{self.backbone.name}' has no {side}x{side} map, but {found}; take amdim_encoder, or "
            "name the sides of two of these in method.options.local_sides"
        )

    def _head(self, features: keras.KerasTensor, name: str) -> keras.Model:
        """1x1 convolutions to D channels beside a shortcut that starts near the identity, then batch normalisation."""
        inputs = keras.Input(features.shape[1:], name="map")
        dense = keras.layers.Dense
        x = dense(self.width, use_bias=False, kernel_initializer=TORCH_UNIFORM, name="hidden")(inputs)
        x = keras.layers.ReLU(name="relu")(BatchNormalization(name="hidden_norm")(x) if self.options.batch_norm else x)
        x = dense(self.width, use_bias=False, kernel_initializer="zeros", name="residual")(x)
        shortcut = dense(self.width, kernel_initializer=NearIdentity(), name="shortcut")(inputs)
        x = BatchNormalization(name="norm")(keras.layers.Add(name="add")([x, shortcut]))
        return keras.Model(inputs, x, name=f"{name}_head")

    def forward(self, batch: Batch, training: bool) -> Batch:
        outputs = {}
        for number in (0, 1):  # each view by itself, with batch statistics of its own
            features = self.backbone(batch[f"view_{number}"], training=training)
            outputs[f"global_{number}"] = features["embedding"]
            for name, key in self.maps.items():
                outputs[f"{name}_{number}"] = self.heads[name](features[key], training=training)
        return outputs

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """[1 -> 5] + [1 -> 7] + [5 -> 5], each the mean of both directions, and the regulariser, half of the six.

        All scores 0: 2 log(1 + 25 (B - 1)) + log(1 + 49 (B - 1)), and no regularisation.
        """
        tasks: dict[str, list[Logs]] = {"global_coarse": [], "global_fine": [], "coarse_coarse": []}
        regulariser = []
        for here, there in ((0, 1), (1, 0)):
            vector = outputs[f"global_{here}"]
            cell = self._random_cell(outputs[f"coarse_{here}"], fold_in(batch["seed"], f"cell_{here}"))
            for task, source, target in (
                ("global_coarse", vector, "coarse"),
                ("global_fine", vector, "fine"),
                ("coarse_coarse", cell, "coarse"),
            ):
                scores = pair_scores(source, outputs[f"{target}_{there}"]) * self.width**-0.5
                regulariser.append(self.options.regulariser * tf.reduce_mean(tf.square(scores)))  # of unclipped scores
                tasks[task].append(location_nce(self._clip_scores(scores)))
        means = {
            task: {key: (first[key] + second[key]) / 2 for key in first} for task, (first, second) in tasks.items()
        }
        regularisation = sums.total(regulariser) / 2
        logs = {task: values["loss"] for task, values in means.items()}
        return {
            "loss": sums.total(list(logs.values())) + regularisation,
            **logs,
            "regulariser": regularisation,
            "accuracy": sums.total([values["accuracy"] for values in means.values()]) / 3,
            "information": sums.total([values["information"] for values in means.values()]) / 3,
        }

    def _clip_scores(self, scores: tf.Tensor) -> tf.Tensor:
        """c tanh(score / c): within ±c, and of slope 1 at 0."""
        return self.options.clip * tf.tanh(scores / self.options.clip)

    @staticmethod
    def _random_cell(maps: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """One location of each map `[b, h, w, d]`, uniformly at random: `[b, d]`."""
        cells = tf.reshape(maps, [-1, maps.shape[1] * maps.shape[2], maps.shape[3]])
        return tf.gather(cells, integers(seed, (), 0, cells.shape[1]), axis=1, batch_dims=1)

    def chance(self) -> dict[str, float]:
        return {"information": 0.0}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """Where in the other view each image's embedding finds itself, and how its score ranks among all images."""
        outputs = self.forward(batch, training=False)
        scores = np.array(pair_scores(outputs["global_0"], outputs["fine_1"])) * self.width**-0.5
        own = scores[np.arange(len(scores)), np.arange(len(scores))]
        side = outputs["fine_1"].shape[1]
        heat = (own - own.min(1, keepdims=True)) / np.maximum(np.ptp(own, axis=1, keepdims=True), 1e-6)
        rank = 1 + (scores.mean(2) > own.mean(1)[:, None]).sum(1)
        return {
            "view 0": batch["view_0"].numpy(),
            "view 1": batch["view_1"].numpy(),
            "where view 0 is found": heat.reshape(-1, side, side, 1).astype("float32"),
            "its rank": [f"{place} of {len(rank)}" for place in rank],
        }
