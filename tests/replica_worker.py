"""Trains methods on a count of logical CPU devices, for test_replicas.py: `replica_worker.py COUNT FILE < options`."""

import pickle
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kzoo import replicas, testing
from kzoo.layers import BatchNormalization
from kzoo.registry import find_method, resolve

SimCLR = resolve(find_method("simclr"))
MoCo = resolve(find_method("moco_v2"))


class NaiveMean(SimCLR):
    """Forgets that gradients are summed over the replicas."""

    def train_step(self, batch):
        with tf.GradientTape() as tape:
            logs = self.loss(self.forward(batch, training=True), batch)
        self.optimizer.apply(tape.gradient(logs["loss"], self.trainable_variables), self.trainable_variables)
        return logs


class OwnQueue(MoCo):
    """Enqueues the keys of its own part of the batch only."""

    def train_step(self, batch):
        logs = super().train_step(batch)
        keys = self.encode_keys(batch)
        rows = tf.range(tf.shape(keys)[0])
        replicas.local(self.queue.keys).scatter_update(tf.IndexedSlices(keys, rows))
        return logs


def main(count: int, target: Path) -> None:
    options = pickle.load(sys.stdin.buffer)
    builders = {name: lambda name=name, o=o: resolve(find_method(name))(backbone(), **o) for name, o in options.items()}
    builders["naive mean"] = lambda: NaiveMean(backbone(), **options["simclr"])
    builders["own queue"] = lambda: OwnQueue(backbone(), **options["moco_v2"])
    coarse = np.random.default_rng(0).integers(0, 256, (64, 4, 4, 3)).astype("uint8")
    images = coarse.repeat(4, 1).repeat(4, 2)
    traces = {
        name: testing.train_on_replicas(build, count, images=images, batch_size=32) for name, build in builders.items()
    }
    target.write_bytes(pickle.dumps(traces))


def backbone() -> keras.Model:
    """Two convolutions with batch normalisation: all that replicas can get wrong, and quick to trace four times."""
    image = x = keras.Input((16, 16, 3))
    for width in (8, 16):
        x = keras.layers.ReLU()(BatchNormalization()(keras.layers.Conv2D(width, 3, strides=2, use_bias=False)(x)))
    return keras.Model(image, {"embedding": keras.layers.GlobalAveragePooling2D()(x)})


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
