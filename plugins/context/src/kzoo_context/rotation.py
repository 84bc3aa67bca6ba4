"""RotNet (Gidaris, Singh, Komodakis, ICLR 2018): unsupervised representations by predicting image rotations."""

import keras
import tensorflow as tf

from kzoo import augment, losses
from kzoo.data import resize_and_crop, to_float
from kzoo.method import Batch, Logs, Method
from kzoo_context.options import RotationOptions


class Rotation(Method):
    """Each image enters four times, turned by 0, 90, 180 and 270 degrees counter-clockwise; the network names the turn.

    Images `[B, H, W, C]` -> crop and flip -> four turns `[4B, h, w, C]`, labels 0, 1, 2, 3, 0, ... -> backbone
    `[4B, D]` -> Dense(4) -> mean cross-entropy over the 4B. Turns are exact (transposes and flips): interpolation would
    leave marks that give the answer away. Uniform logits give log 4.

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
            images = augment.pad_crop(images, seed, padding=options.padding, flip=options.flip)
        return {"image": augment.rotations4(images), "turn": tf.tile(tf.range(4), [tf.shape(images)[0]])}

    def build_heads(self) -> None:
        self.classifier = keras.layers.Dense(4, name="turn")
        self.classifier.build((None, self.width))

    def forward(self, batch: Batch, training: bool) -> Batch:
        return {"logits": self.classifier(self.embed(batch["image"], training))}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        logits, turn = outputs["logits"], batch["turn"]
        return {"loss": losses.cross_entropy(logits, turn), "accuracy": losses.accuracy(logits, turn)}
