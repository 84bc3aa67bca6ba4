"""Trains MoCo v2 to the middle of an epoch on some replicas and from there to its end on others, for test_resume.py.

Prints JSON: for each pair of counts how often each example was trained on, and the losses.
"""

import json
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kzoo import checkpoint, devices, replicas
from kzoo.data import array_source
from kzoo.random import fold_in, uniform
from kzoo.registry import find_method, resolve
from kzoo.testing.tiny import tiny_backbone

BATCH, STEPS, HALFWAY = 8, 5, 2
IMAGES = np.random.default_rng(0).integers(0, 256, (BATCH * STEPS, 16, 16, 3)).astype("uint8")


class Counting(resolve(find_method("moco_v2"))):
    """Counts, in a variable, how often it was shown each example."""

    @staticmethod
    def pretext(batch, seed, options):
        image = tf.cast(batch["image"], tf.float32) / 255.0  # few operations, so that tests do not wait for tracing
        return {name: image * uniform(fold_in(seed, name), (1, 1, 1), 0.5) for name in ("query", "key")}

    def build_heads(self):
        super().build_heads()
        self.seen = self.add_weight(name="seen", shape=(len(IMAGES),), dtype="int64", trainable=False)

    def train_step(self, batch):
        ids = replicas.gather(batch["id"])
        replicas.local(self.seen).scatter_add(tf.IndexedSlices(tf.ones_like(ids), ids))
        return super().train_step(batch)


def build(count):
    with devices.make_strategy("mirrored" if count > 1 else "single", count, BATCH).scope():
        keras.utils.set_random_seed(count)  # resuming must not depend on how the weights began
        method = Counting(tiny_backbone((16, 16, 3)), queue=2 * BATCH, groups=2, projector=(8,))
        method.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    return method


def train(method, start, stop):
    losses = []
    log = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: losses.append(float(logs["loss"])))
    source = array_source("images", IMAGES)
    if stop < STEPS:  # an epoch that a signal stops
        method.fit(method.stream(source, batch_size=BATCH, seed=1), steps_per_epoch=stop, verbose=0, callbacks=[log])
    else:
        method.fit(source, batch_size=BATCH, seed=1, start_step=start, verbose=0, callbacks=[log])
    return losses


def main():
    devices.split_cpu(2)
    keras.config.set_dtype_policy("float64")  # rounding differs with the number of replicas
    found = {}
    with tempfile.TemporaryDirectory() as made:
        first = build(1)
        checkpoint.save(Path(made, "begin"), 0, checkpoint.state(first), recipe_hash="")
        methods = {1: first, 2: build(2)}
        for before, after in ((1, 1), (1, 2), (2, 1)):
            checkpoint.restore(Path(made, "begin"), checkpoint.state(methods[before]), recipe_hash="")
            folder = Path(made, f"{before}{after}")
            losses = train(methods[before], 0, HALFWAY)
            checkpoint.save(folder, HALFWAY, checkpoint.state(methods[before]), recipe_hash="")
            checkpoint.restore(folder, checkpoint.state(methods[after]), recipe_hash="")
            losses += train(methods[after], HALFWAY, STEPS)
            copies = methods[after].distribute_strategy.experimental_local_results(methods[after].seen.value)
            found[f"{before} to {after}"] = {"seen": [copy.numpy().tolist() for copy in copies], "losses": losses}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
