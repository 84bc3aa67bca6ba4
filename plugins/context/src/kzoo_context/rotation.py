"""RotNet (Gidaris, Singh, Komodakis, ICLR 2018): unsupervised representations by predicting image rotations."""

import math

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, losses
from kzoo.data import resize_and_crop, to_float
from kzoo.errors import OptionsError
from kzoo.method import Batch, Logs, Method
from kzoo_context.options import RotationOptions


class Rotation(Method):
    """Each image enters four times, turned by 0, 90, 180 and 270 degrees counter-clockwise; the network names the turn.

    Images `[B, H, W, C]` -> crop and flip -> four turns `[4B, h, w, C]`, labels 0, 1, 2, 3, 0, ... -> backbone
    `[4B, D]` -> Dense(4) -> mean cross-entropy over the 4B. Turns are exact (transposes and flips): interpolation would
    leave marks that give the answer away. Uniform logits give log 4.

    The last layers of a network learn the task rather than the image. The paper's best representation is that of its
    second block of four; `feature` names the output that goes downstream.

    Deviation: any backbone, where the paper has a network in network (CIFAR) and AlexNet (ImageNet).
    """

    options: RotationOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: RotationOptions) -> Batch:
        images = batch["image"]
        size = options.size or images.shape[1]
        if options.crop == "resized":
            images = augment.random_resized_crop(images, seed, size, flip=options.flip)
        else:
            images = resize_and_crop(to_float(images), size)
            mode = "constant" if options.border == "zeros" else "reflect"
            images = augment.pad_crop(images, seed, padding=options.padding, mode=mode, flip=options.flip)
        return {"image": augment.rotations4(images), "turn": tf.tile(tf.range(4), [tf.shape(images)[0]])}

    def build_heads(self) -> None:
        self.classifier = keras.layers.Dense(4, name="turn")
        self.classifier.build((None, self.width))
        self.downstream = self.backbone
        if self.options.feature != "embedding":
            self.downstream = with_embedding(self.backbone, self.options.feature)

    @property
    def encoder(self) -> keras.Model:
        return self.downstream

    def forward(self, batch: Batch, training: bool) -> Batch:
        return {"logits": self.classifier(self.embed(batch["image"], training))}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        logits, turn = outputs["logits"], batch["turn"]
        return {"loss": losses.cross_entropy(logits, turn), "accuracy": losses.accuracy(logits, turn)}

    def chance(self) -> dict[str, float]:
        return {"loss": math.log(4), "accuracy": 1 / 4}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        rows = np.array([4 * i + (i + 1) % 4 for i in range(len(batch["turn"]) // 4)])  # another turn in each row
        images, true = np.asarray(batch["image"])[rows], np.asarray(batch["turn"])[rows]
        answer = np.argmax(self.forward({"image": tf.constant(images)}, training=False)["logits"], axis=1)
        turned_back = augment.rotate90(tf.constant(images), tf.constant(-answer % 4, tf.int32))
        return {
            "turned": images,
            "turned back": np.asarray(turned_back),
            "answer": [
                f"{90 * said} degrees" if said == turn else f"{90 * said} degrees,\nnot {90 * turn}"
                for said, turn in zip(answer, true, strict=True)
            ],
        }


def with_embedding(backbone: keras.Model, feature: str) -> keras.Model:
    """A model with the backbone's outputs, but as embedding one of the others, averaged over positions.

    Raises: OptionsError if the backbone has no such output.
    """
    outputs = backbone.output
    if feature not in outputs:
        raise OptionsError(f"rotation: feature: {backbone.name} has {', '.join(outputs)}. Received: {feature}")
    pool = (
        keras.layers.GlobalAveragePooling2D if len(outputs[feature].shape) == 4 else keras.layers.GlobalAveragePooling1D
    )
    embedding = pool(name=f"{feature}_embedding")(outputs[feature])
    return keras.Model(backbone.input, {**outputs, "embedding": embedding}, name=backbone.name)
