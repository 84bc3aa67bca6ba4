"""Measures what a training step of kzoo's SimCLR on ResNet-18 costs, beside the same step by hand and by stock Keras.

Three contestants take turns on one machine, with the same initial weights and the same batch, held in memory:

    kzoo   `method.fit`, as a recipe trains
    bare   a `tf.function` on raw variables, with TensorFlow's fused kernels and no Keras in the step
    stock  the same network of `keras.layers`, with the `train_step` that a Keras user writes, under `model.fit`

Their losses before the first update and after each of the first two must agree: they do the same work. Stock Keras
runs without XLA, its default, which on the CPU is several times slower.
"""

import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import typer
from record import origin
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import kzoo
from kzoo.layers import BatchNormalization
from kzoo.runs.provenance import versions
from kzoo.system.files import write_text

SIZE, CHANNELS, BATCH = 32, 3, 64  # pixels, colours, examples; each example is two views
LEARNING_RATE, MOMENTUM = 1e-4, 0.9  # a small rate, so that rounding does not grow from one loss to the next
WARM_UP = 3  # steps: the first also traces, the losses of the second and third show that update and momentum are right
TOLERANCE = 1e-3  # of the losses, in nats
SLOWEST_OVER_BARE, LEAST_UNDER_STOCK = 1.05, 1.15  # the targets: kzoo / bare at most, stock / kzoo at least

Batch = dict[str, tf.Tensor]


class Turn(NamedTuple):
    """What some steps took: seconds by the clock, and of all cores together. loss: that of the last step."""

    seconds: float
    cpu_seconds: float
    loss: float


Contestant = Callable[[int], Turn]  # takes so many steps


class Stopwatch:
    """Seconds since it was made, by the clock, and of this process on all cores."""

    def __init__(self) -> None:
        self.began = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.began[0], time.process_time() - self.began[1]


def main(
    steps: Annotated[int, typer.Option(min=1, help="training steps in one turn")] = 3,
    repeats: Annotated[int, typer.Option(min=1, help="turns of each contestant; 6 gives every order")] = 6,
    backbone_width: Annotated[int, typer.Option(min=1, help="channels of the first stage; 64 is ResNet-18")] = 64,
    json_path: Annotated[Path, typer.Option("--json", help="file to write the figures to")] = Path(__file__).parent
    / "results"
    / "step.json",
) -> None:
    """Time a step of SimCLR on ResNet-18, by kzoo, by hand and by stock Keras, in turn."""
    console = Console()
    keras.utils.set_random_seed(0)
    backbone = kzoo.build_backbone("resnet18", input_shape=(SIZE, SIZE, CHANNELS), width=backbone_width)
    method = kzoo.build_method("simclr", backbone)
    data = tf.data.Dataset.from_tensors(paired_batch()).repeat()
    # stock and bare copy the weights now, before kzoo trains them
    stock, bare = fitted(StockSimCLR(method), data, jit_compile=False), by_hand(BareSimCLR(method), data)
    contestants: dict[str, Contestant] = {"kzoo": fitted(method, data), "bare": bare, "stock": stock}

    names = list(contestants)
    orders = list(itertools.permutations(names))  # in turn, so that none always follows the same other
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(names) * (WARM_UP + repeats))

        def take_turn(name: str, label: str, count: int) -> Turn:
            progress.update(task, description=f"{name}, {label}")
            turn = contestants[name](count)
            progress.advance(task)
            return turn

        check_same_losses({name: [take_turn(name, "warm-up", 1).loss for _ in range(WARM_UP)] for name in names})
        for repeat in range(repeats):
            for name in orders[repeat % len(orders)]:
                turns[name].append(take_turn(name, f"turn {repeat + 1} of {repeats}", steps))

    seconds = {name: [turn.seconds / steps for turn in taken] for name, taken in turns.items()}
    cpu_seconds = {name: [turn.cpu_seconds / steps for turn in taken] for name, taken in turns.items()}
    figures = summary(seconds, cpu_seconds)
    console.print(table(figures, seconds))
    record = {
        **origin(),
        "versions": versions(),
        "settings": {
            "method": "simclr",
            "backbone": {"name": "resnet18", "stem": "cifar", "width": backbone_width},
            "parameters": method.count_params(),
            "image": [SIZE, SIZE, CHANNELS],
            "batch_size": BATCH,
            "precision": "float32",
            "optimizer": {"name": "sgd", "learning_rate": LEARNING_RATE, "momentum": MOMENTUM},
            "steps": steps,
            "repeats": repeats,
        },
        "figures": figures,
        "seconds_per_step_of_each_turn": seconds,
        "cpu_seconds_per_step_of_each_turn": cpu_seconds,
    }
    json_path.parent.mkdir(parents=True, exist_ok=True)
    write_text(json_path, json.dumps(record, indent=2) + "\n")
    console.print(f"written to {json_path}", markup=False)


def paired_batch() -> Batch:
    """A batch as SimCLR's pretext makes it: views float32 `[B, 32, 32, 3]` in [0, 1].

    The views of an image share its coarse colours: of pure noise every embedding would be the same, and the losses
    would be equal whatever the network does.
    """
    generator = np.random.default_rng(0)
    coarse = generator.random((BATCH, 4, 4, CHANNELS)).repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)
    batch = {"id": tf.range(BATCH, dtype=tf.int64), "seed": tf.range(BATCH, dtype=tf.int64)}
    for view in ("view_0", "view_1"):
        fine = generator.random((BATCH, SIZE, SIZE, CHANNELS))
        batch[view] = tf.constant(0.8 * coarse + 0.2 * fine, tf.float32)
    return batch


# ---- kzoo, and whatever else trains by fit --------------------------------------------------------------------------


class Watch(keras.callbacks.Callback):
    """Times the epoch, without what `fit` does before and after it, and keeps the loss of the last step."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.stopwatch = Stopwatch()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.loss = float(logs["loss"])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.turn = Turn(*self.stopwatch.read(), self.loss)


def fitted(model: keras.Model, data: tf.data.Dataset, **compile_options: Any) -> Contestant:
    """A contestant that trains a model with `fit`."""
    model.compile(keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM), **compile_options)

    def take(steps: int) -> Turn:
        watch = Watch()
        model.fit(data, steps_per_epoch=steps, callbacks=[watch], shuffle=False, verbose=0)
        return watch.turn

    return take


# ---- stock Keras ----------------------------------------------------------------------------------------------------


class StockSimCLR(keras.Model):
    """SimCLR as Keras' own guides teach it: stock layers, a loss of `keras.ops`, a `train_step` with a loss tracker."""

    def __init__(self, method: kzoo.Method):
        super().__init__()
        self.temperature = method.options.temperature
        self.encoder, self.projector = with_stock_layers(method.backbone), with_stock_layers(method.projector)
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[keras.Metric]:
        return [self.loss_tracker]

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.projector(self.encoder(images, training=training)["embedding"], training=training)

    def nt_xent(self, projections: tf.Tensor) -> tf.Tensor:
        ops = keras.ops
        z = ops.normalize(projections, axis=-1)
        logits = ops.matmul(z, ops.transpose(z)) / self.temperature - 1e9 * ops.eye(2 * BATCH)
        positives = ops.roll(ops.arange(2 * BATCH), BATCH)
        return ops.mean(keras.losses.sparse_categorical_crossentropy(positives, logits, from_logits=True))

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        images = tf.concat([batch["view_0"], batch["view_1"]], axis=0)
        with tf.GradientTape() as tape:
            loss = self.nt_xent(self(images, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def with_stock_layers(model: keras.Model) -> keras.Model:
    """The same network with Keras' own batch normalisation, and the same weights."""

    def stock(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, BatchNormalization):
            return keras.layers.BatchNormalization.from_config({**layer.get_config(), "synchronized": False})
        return type(layer).from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=stock)
    clone.set_weights(model.get_weights())
    return clone


# ---- by hand --------------------------------------------------------------------------------------------------------


class BareSimCLR:
    """SimCLR on ResNet-18 in TensorFlow's functions alone. Variables go by their path in the Keras model."""

    def __init__(self, method: kzoo.Method):
        self.temperature = method.options.temperature
        self.weights = {v.path: tf.Variable(v.numpy()) for v in method.trainable_variables}
        self.averages = {v.path: tf.Variable(v.numpy()) for v in method.non_trainable_variables}
        self.velocities = {path: tf.Variable(tf.zeros_like(weight)) for path, weight in self.weights.items()}

    @tf.function
    def step(self, batch: Batch) -> tf.Tensor:
        images = tf.concat([batch["view_0"], batch["view_1"]], axis=0)
        with tf.GradientTape() as tape:
            loss = self.nt_xent(self.projector(self.resnet18(images)))
        gradients = tape.gradient(loss, self.weights)
        for path, weight in self.weights.items():
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=weight.handle,
                accum=self.velocities[path].handle,
                lr=LEARNING_RATE,
                grad=gradients[path],
                momentum=MOMENTUM,
            )
        return loss

    def nt_xent(self, projections: tf.Tensor) -> tf.Tensor:
        z = tf.math.l2_normalize(projections, axis=1)
        logits = tf.matmul(z, z, transpose_b=True) / self.temperature
        logits = tf.linalg.set_diag(logits, tf.fill([2 * BATCH], -1e9))
        positives = tf.roll(tf.range(2 * BATCH), BATCH, axis=0)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(positives, logits))

    def projector(self, x: tf.Tensor) -> tf.Tensor:
        for index in range(2):
            x = tf.matmul(x, self.weights[f"projector/dense_{index}/kernel"])
            x = self.norm(x[:, None, None, :], f"projector/norm_{index}")[:, 0, 0, :]
            x = tf.nn.relu(x) if index == 0 else x
        return x

    def resnet18(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(self.convolution_norm(x, "stem"))
        for stage in (1, 2, 3, 4):
            for index in (1, 2):
                name, stride = f"stage_{stage}_block_{index}", 2 if stage > 1 and index == 1 else 1
                residual = tf.nn.relu(self.convolution_norm(x, f"{name}_1", stride))
                residual = self.convolution_norm(residual, f"{name}_2")
                shortcut = x if stride == 1 else self.convolution_norm(x, f"{name}_shortcut", stride)
                x = tf.nn.relu(shortcut + residual)
        return tf.reduce_mean(x, axis=[1, 2])

    def convolution_norm(self, x: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
        kernel = self.weights[f"{name}_conv/kernel"]
        if stride > 1 and kernel.shape[0] == 3:
            x = tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), kernel, stride, "VALID")
        else:
            x = tf.nn.conv2d(x, kernel, stride, "SAME")
        return self.norm(x, f"{name}_norm")

    def norm(self, x: tf.Tensor, name: str) -> tf.Tensor:
        gamma, beta = self.weights[f"{name}/gamma"], self.weights.get(f"{name}/beta")
        empty = tf.zeros([0])
        normed, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=gamma,
            offset=tf.zeros_like(gamma) if beta is None else beta,
            mean=empty,
            variance=empty,
            epsilon=1e-5,
        )
        for key, value in (("moving_mean", mean), ("moving_variance", variance)):
            average = self.averages[f"{name}/{key}"]
            average.assign(0.9 * average + 0.1 * value)
        return normed


def by_hand(bare: BareSimCLR, data: tf.data.Dataset) -> Contestant:
    """A contestant that trains in a loop of its own."""

    def take(steps: int) -> Turn:
        stopwatch = Stopwatch()
        for batch in data.take(steps):
            loss = float(bare.step(batch))
        return Turn(*stopwatch.read(), loss)

    return take


# ---- the figures ----------------------------------------------------------------------------------------------------


def check_same_losses(losses: dict[str, list[float]]) -> None:
    """Stop unless all contestants begin with kzoo's losses: they would not be doing the same work."""
    for name, values in losses.items():
        if not np.allclose(values, losses["kzoo"], rtol=0, atol=TOLERANCE):
            raise SystemExit(f"{name}: the first losses are {values}, kzoo's are {losses['kzoo']}: not the same step")


def summary(seconds: dict[str, list[float]], cpu_seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Medians of the turns. A ratio is the median of the ratios of turns taken side by side."""

    def medians(values: dict[str, list[float]]) -> dict[str, float]:
        return {name: statistics.median(turns) for name, turns in values.items()}

    def ratio(slow: str, fast: str) -> float:
        return statistics.median(s / f for s, f in zip(seconds[slow], seconds[fast], strict=True))

    return {
        "seconds_per_step": medians(seconds),
        "cpu_seconds_per_step": medians(cpu_seconds),
        "images_per_second": {name: BATCH / median for name, median in medians(seconds).items()},
        "kzoo_over_bare": ratio("kzoo", "bare"),
        "stock_over_kzoo": ratio("stock", "kzoo"),
    }


def table(figures: dict[str, Any], seconds: dict[str, list[float]]) -> Table:
    over_bare, under_stock = figures["kzoo_over_bare"], figures["stock_over_kzoo"]
    shown = Table(
        title=f"SimCLR on ResNet-18, {SIZE} px, {BATCH} images in two views",
        caption=f"kzoo / bare {over_bare:.3f}, target at most {SLOWEST_OVER_BARE}\n"
        f"stock / kzoo {under_stock:.3f}, target at least {LEAST_UNDER_STOCK}",
    )
    for heading in ("", "s/step", "fastest", "slowest", "CPU s/step", "images/s"):
        shown.add_column(heading, justify="right" if heading else "left")
    for name, turns in seconds.items():
        values = (figures["seconds_per_step"][name], min(turns), max(turns), figures["cpu_seconds_per_step"][name])
        shown.add_row(name, *(f"{value:.3f}" for value in values), f"{figures['images_per_second'][name]:.1f}")
    return shown


if __name__ == "__main__":
    typer.run(main)
