"""`Method`: the base class that turns a pretext, heads and a loss into a Keras model for any number of replicas.

It owns what is easy to get wrong and silent when wrong: dividing by the number of replicas, clipping the joint
gradient, loss scaling, building before compile, per-example randomness, the configuration, and inference on the
backbone alone.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from pydantic import ValidationError

from kzoo import optimizers, replicas, sums, workers
from kzoo.data import Source, array_source, to_float, training_stream
from kzoo.errors import DataError, OptionsError, StrategyError, TrainingError
from kzoo.layers import dropout_keys
from kzoo.losses import full_precision
from kzoo.options import Options
from kzoo.random import fold_in
from kzoo.text import SPECIAL

Batch = dict[str, tf.Tensor]
Logs = dict[str, tf.Tensor]


@dataclass(frozen=True)
class Group:
    """Variables that one optimizer updates. rate: factor on the learning rate of the recipe."""

    variables: list[keras.Variable]
    rate: float = 1.0


class Method(keras.Model):
    """A self-supervised method around a backbone.

    A subclass annotates `options: ItsOptions` and writes `pretext`, `build_heads`, `forward`, `loss`, and, where the
    paper does more than one gradient step on one loss, `train_step`.

    Args:
        backbone: a Functional model, float images in [0, 1] `[B, H, W, C]` to a dict with "embedding" `[B, D]`.
        options: the validated options; or give them one by one as keywords.
        examples: number of training examples, which a method with a memory of each must know; their "id" is below it.

    Raises:
        OptionsError: an option is unknown or out of range.
    """

    options: Options
    asks_held_out = True  # whether the pretext can be asked about examples that it was not trained on

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable(package=cls.__module__.partition(".")[0])(cls)

    def __init__(
        self,
        backbone: keras.Model,
        options: Options | None = None,
        *,
        examples: int | None = None,
        name: str | None = None,
        **values: Any,
    ):
        super().__init__(name=name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower())
        del self.loss  # Keras keeps the loss= argument of compile() under the name of our method
        if options is None:
            try:
                options = self.options_class()(**values)
            except ValidationError as error:
                raise OptionsError(
                    [f"{self.name}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
                ) from None
        self.backbone = backbone
        self.options = options
        self.examples = examples
        self.optimizers: dict[str, keras.optimizers.Optimizer] = {}
        self.whole_steps: int | None = None  # of the training, as compile was told
        self.total_steps: int | None = None  # of the training that is under way
        self.first_step = 0  # of that training, in steps of the optimizer
        self.clip_norm: float | None = None
        self.clip_tensor_norm: float | None = None
        self.accumulate = 1
        self.vocabulary: tuple[str, ...] = ()  # of the text that it was fitted to
        self.build_heads()
        self._build_on_zeros()

    # ---- what a method author writes --------------------------------------------------------------------------------

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: Any) -> Batch:
        """Turn raw examples into a training batch.

        Pure: no variables, no randomness but from `seed`, so it can run in the input pipeline or be drawn as a picture.

        Args:
            batch: raw examples, e.g. {"image": uint8 `[B, H, W, C]`, "id": int64 `[B]`, "label": int64 `[B]`}; text
                has {"tokens": int32 `[B, T]`, "vocabulary_size": int32 `[B]`} in place of the image.
            seed: int64 `[B]`, one key per example; draw with `kzoo.random`.
            options: the method's options.

        Returns:
            tensors whose first axis is B or a multiple of it, those of example i before those of i + 1.
        """
        raise TypeError("a method must define pretext(batch, seed, options)")

    def build_heads(self) -> None:
        """Create and build what the method adds to the backbone; `self.width` is the width of the embedding."""

    def forward(self, batch: Batch, training: bool) -> dict[str, tf.Tensor]:
        """The outputs that `loss` reads, from a batch that `pretext` made."""
        raise TypeError(f"{type(self).__name__} must define forward(batch, training)")

    def loss(self, outputs: dict[str, tf.Tensor], batch: Batch) -> tf.Tensor | Logs:
        """A scalar: the mean over this replica's examples. Half-precision outputs arrive as float32.

        Or a dict of scalars to log, whose "loss" is minimised: {"loss": ..., "accuracy": ...}.
        """
        raise TypeError(f"{type(self).__name__} must define loss(outputs, batch)")

    def train_step(self, batch: Batch) -> Logs:
        """One step of the paper, in the paper's order. By default: `minimise`."""
        return self.minimise(batch)

    def optimizer_groups(self) -> dict[str, Group]:
        """Which variables each optimizer updates, the main one first. By default one holds all that are trainable.

        A GAN names two; `compile` makes an optimizer of the recipe's kind for each, `minimise(group=...)` picks one.
        """
        return {"main": Group(self.trainable_variables)}

    def begin_epoch(self, epoch: int) -> None:
        """Called outside the graph when an epoch truly begins, not when a run resumes within one.

        What it computes must follow from the variables and the epoch's number, and be left in variables.
        """

    @property
    def encoder(self) -> keras.Model:
        """The Functional model that goes downstream: evaluated, saved and exported. By default the backbone."""
        return self.backbone

    def chance(self) -> dict[str, float]:
        """What figures that `loss` logs are worth without learning, e.g. {"loss": log 4, "accuracy": 0.25}."""
        return {}

    def answers(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """What the trained method makes of a pretext batch, to be drawn: columns by title, a row for each example.

        Args:
            raw: the examples as they are. batch: what `pretext` made of them.

        Returns:
            pictures, float `[n, h, w, C]` in [0, 1], or captions, n strings; {} where there is nothing to see.
        """
        return {}

    def assess(self, train: Source, test: Source | None) -> dict[str, float]:
        """Figures of the paper's own protocol, beside the probes that all methods share; called after training."""
        return {}

    # ---- what it calls ----------------------------------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Width D of the backbone's embedding."""
        return int(self.backbone.output["embedding"].shape[-1])

    @property
    def input_size(self) -> int:
        """Side in pixels of the backbone's images; where it takes any size, that of the options, or 32."""
        return self.backbone.input_shape[1] or getattr(self.options, "size", None) or 32

    def blank_examples(self) -> dict[str, np.ndarray]:
        """Two raw examples of zeros, which build the method: {"image": ...}, or {"tokens": ...} where that is read."""
        if len(self.backbone.input_shape) == 2:
            tokens = np.zeros((2, self.backbone.input_shape[1]), "int32")
            return {"tokens": tokens, "vocabulary_size": np.full(2, len(SPECIAL) + 1, "int32")}
        size, channels = self.input_size, self.backbone.input_shape[-1]
        return {"image": np.zeros((2, size, size, channels), "uint8")}

    def embed(self, images: tf.Tensor, training: bool) -> tf.Tensor:
        """The backbone's embedding `[B, D]` of float images in [0, 1]."""
        return self.backbone(images, training=training)["embedding"]

    def need_examples(self) -> int:
        """The number of training examples. Raises OptionsError where it was not given."""
        if self.examples is None:
            raise OptionsError([f"{self.name}: remembers every example; give their number, examples=n, on building it"])
        return self.examples

    def progress(self) -> tf.Tensor:
        """Share of the training that is done before this step, float32 in [0, 1]; 0 where its end is not known."""
        if not self.total_steps:
            return tf.constant(0.0)
        step = tf.convert_to_tensor(self.optimizer.iterations) - self.first_step
        return tf.minimum(1.0, tf.cast(step, tf.float32) / self.total_steps)

    def minimise(self, batch: Batch, *, loss: Callable[[Batch], Logs] | None = None, group: str | None = None) -> Logs:
        """One optimizer step on a loss that is a mean over this replica's examples.

        Args:
            loss: `batch -> {"loss": scalar, more to log}`; by default `forward` and `loss`.
            group: which of `optimizer_groups` to update; by default the first.

        Returns:
            logs of this replica, "loss" among them; Keras averages them over the replicas.
        """
        loss = loss or functools.partial(self._named_loss, training=True)
        group = group or next(iter(self.optimizers))
        variables, optimizer = self.optimizer_groups()[group].variables, self.optimizers[group]
        parts = _split(batch, self.accumulate)
        gradients, logs = self._gradients(parts[0], loss, variables, optimizer)
        for part in parts[1:]:
            # one after the other: the memory of one part, not of all
            with tf.control_dependencies([g for g in gradients if g is not None]):
                more, more_logs = self._gradients(
                    {key: tf.identity(value) for key, value in part.items()}, loss, variables, optimizer
                )
            gradients = [g if m is None else m if g is None else g + m for g, m in zip(gradients, more, strict=True)]
            logs = {key: value + more_logs[key] for key, value in logs.items()}
        if len(parts) > 1:
            gradients = [g if g is None else g / len(parts) for g in gradients]
            logs = {key: value / len(parts) for key, value in logs.items()}
        optimizer.apply(self._clip(gradients, optimizer), variables)
        return logs

    # ---- what Keras calls -------------------------------------------------------------------------------------------

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The downstream embedding `[B, D]` of images, uint8 or float in [0, 1], `[B, H, W, C]`."""
        return self.encoder(to_float(images), training=training)["embedding"]

    def compile(
        self,
        optimizer: Any = "adam",
        *,
        clip_norm: float | None = None,
        clip_tensor_norm: float | None = None,
        accumulate: int = 1,
        total_steps: int | None = None,
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        """Set the optimizer; inside the strategy's scope where there is one.

        Args:
            optimizer: as Keras takes it. Decoupled weight decay spares biases and normalisation. A method with several
                groups gets one more of the same kind for each.
            clip_norm: largest norm of the whole gradient of the joint batch. clip_tensor_norm: of each tensor's (DINO).
            accumulate: cut each batch in so many parts, one after the other, for one update; saves memory. Losses that
                compare examples see one part at a time.
            total_steps: of the whole training, for what changes in its course, over all that `fit` is called for; none:
                each call of `fit` is a training of its own, whose steps it counts.
            jit_compile: "auto" means XLA on one accelerator only; on the CPU it makes steps several times slower.

        Raises:
            StrategyError: the optimizer clips by itself under several replicas, where it would clip each replica's
                part of the gradient; or float16 is asked for there.
        """
        if jit_compile == "auto":
            jit_compile = replicas.count() == 1 and bool(tf.config.list_physical_devices("GPU"))
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        own: keras.optimizers.Optimizer = self.optimizer  # type: ignore[has-type]
        self.optimizers = {}
        for number, (name, group) in enumerate(self.optimizer_groups().items()):
            each = own if number == 0 and group.rate == 1.0 else optimizers.another(own, group.rate)
            if not each.built:
                optimizers.without_decay(each, group.variables)
                each.build(group.variables)
            self.optimizers[name] = each
        own = self.optimizer = next(iter(self.optimizers.values()))
        if replicas.count() > 1:
            if own.clipnorm or own.global_clipnorm or own.clipvalue:
                raise StrategyError(
                    "optimizer: clips each replica's part of the gradient; give clip_norm to compile() instead"
                )
            if isinstance(own, keras.optimizers.LossScaleOptimizer):
                raise StrategyError(
                    "train.precision: mixed_float16 works on one replica; use mixed_bfloat16 on several"
                )
        self.clip_norm, self.clip_tensor_norm, self.accumulate = clip_norm, clip_tensor_norm, accumulate
        self.whole_steps = self.total_steps = total_steps
        self.first_step = 0

    def fit(  # type: ignore[override]
        self,
        x: Source | np.ndarray,
        *,
        batch_size: int | None = None,
        epochs: int = 1,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        start_step: int = 0,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train on raw images, which are shuffled, batched and passed through the pretext here.

        Args:
            x: uint8 `[N, H, W, C]`, or a source (`kzoo.open_dataset`).
            batch_size: of the global batch; 256, or N if that is less.
            steps_per_epoch: none: as many as there are whole batches.
            seed: of order and augmentation.
            start_step: go on where a training with the same variables stood after so many steps, also within an epoch.
            kwargs: more for `keras.Model.fit`: callbacks, verbose.

        Raises:
            DataError: other images than these, or fewer than a batch.
        """
        source = array_source(self.name, x) if isinstance(x, np.ndarray) else x
        if not isinstance(source, Source):
            raise DataError(
                f"{self.name}: fit takes uint8 images [N, H, W, C] or a source, and fit_batches what stream makes of "
                f"them; received {type(x).__name__}"
            )
        self.vocabulary = source.vocabulary
        batch_size = batch_size or min(256, source.size)
        batches = self.stream(source, batch_size=batch_size, seed=seed, start_step=start_step)
        steps = steps_per_epoch or source.size // batch_size
        return self.fit_batches(batches, epochs=epochs, steps_per_epoch=steps, start_step=start_step, **kwargs)

    def fit_batches(
        self,
        batches: Any,
        *,
        epochs: int = 1,
        steps_per_epoch: int,
        start_step: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train on batches that the pretext has made, as `stream` gives them.

        Args:
            batches: they begin with the batch of `start_step`.
            start_step: as in `fit`. Callbacks that can `set_state` are not told again that this epoch begins.
        """
        self._count_from(start_step, epochs * steps_per_epoch)
        every: Any = list(callbacks)
        if not any(isinstance(callback, EpochMeans) for callback in every):
            every.insert(0, EpochMeans())
        initial_epoch, done = divmod(start_step, steps_per_epoch)
        if done:
            told = {"verbose": kwargs.get("verbose", "auto"), "epochs": epochs, "steps": steps_per_epoch}
            every = _RestOfEpoch(every, done, self, **told)
        with sums.in_order():
            return super().fit(
                batches,
                epochs=epochs,
                steps_per_epoch=steps_per_epoch,
                initial_epoch=initial_epoch,
                callbacks=every,
                shuffle=False,  # they are in their order already
                **kwargs,
            )

    def _count_from(self, start_step: int, total_steps: int) -> None:
        """What `progress` counts: from `compile` where that said the whole, else from this training's beginning."""
        if self.whole_steps is None:
            counted = int(self.optimizer.iterations.numpy()) - start_step, total_steps
            if counted != (self.first_step, self.total_steps):
                self.first_step, self.total_steps = counted
                self.train_function = None  # which has the old ones in it

    def stream(self, source: Any, *, batch_size: int, seed: int, start_step: int = 0) -> Any:
        """The endless training batches of a `kzoo.data.Source`, laid over the replicas of the current strategy."""
        strategy = self.distribute_strategy
        shards = strategy.num_replicas_in_sync
        if batch_size % (shards * self.accumulate):
            raise StrategyError(
                f"train.batch_size: {batch_size} does not divide over {shards} replicas"
                + (f" x {self.accumulate} accumulated parts" if self.accumulate > 1 else "")
            )

        def pipeline(context: Any) -> tf.data.Dataset:
            local = shards // context.num_input_pipelines
            return training_stream(
                source,
                self.transform,
                batch_size=batch_size,
                seed=seed,
                start_step=start_step,
                shard_index=context.input_pipeline_id * local,
                shard_count=shards,
                local_shards=local,
            )

        if shards == 1:
            return pipeline(tf.distribute.InputContext())
        return strategy.distribute_datasets_from_function(pipeline)

    def transform(self, batch: Batch, seeds: tf.Tensor) -> Batch:
        """The pretext, plus what every step may need: "id" and "seed", int64 `[B]`, for randomness inside the step."""
        ready = self.pretext(batch, fold_in(seeds, "pretext"), self.options)
        return {"id": batch["id"], "seed": fold_in(seeds, "step"), **ready}

    def test_step(self, batch: Batch) -> Logs:
        """The pretext loss in inference mode, on batches that `stream` made of held-out examples."""
        return self._named_loss(batch, training=False)

    @property
    def metrics(self) -> list[keras.Metric]:
        """None: the logs of a step are that step's own figures, and their means over the epoch are made outside."""
        return []

    def get_compile_config(self) -> dict[str, Any]:
        """Nothing: a saved method is compiled anew, its optimizer belongs to the run's checkpoints."""
        return {}

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "options": self.options.model_dump(mode="json"),
            "examples": self.examples,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Self:
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects=custom_objects)
        options = cls.options_class()(**config["options"])
        return cls(backbone, options, examples=config["examples"], name=config["name"])

    @classmethod
    def options_class(cls) -> type[Options]:
        """The class that annotates `options`."""
        for owner in cls.__mro__:
            if "options" in vars(owner).get("__annotations__", {}):
                return inspect.get_annotations(owner, eval_str=True)["options"]
        raise TypeError(f"{cls.__name__} must annotate `options: ItsOptions`")

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _build_on_zeros(self) -> None:
        """Create every variable now: a model that is first built inside fit reloads with other outputs, silently."""
        raw = {**self.blank_examples(), "id": np.zeros(2, "int64"), "label": np.full(2, -1, "int64")}
        batch = self.transform({key: tf.constant(value) for key, value in raw.items()}, tf.zeros(2, "int64"))
        self.forward(batch, training=False)
        self.built = True

    # The next two are Keras' own, and let `fit` run under MultiWorkerMirroredStrategy, where it fails otherwise
    # (keras#20585); tests/test_workers.py tells when Keras needs them no more.

    def _maybe_symbolic_build(self, iterator: Any = None, **kwargs: Any) -> None:
        """Build nothing: Keras would build again, under no strategy. Keep what counts the steps of an epoch."""
        self.epoch_iterator = iterator

    def _make_function(self, step_function: Callable[[Any], Logs]) -> Any:
        """Give the logs of a step an axis: over several workers Keras averages them along their first."""

        def step(batch: Any) -> Logs:
            logs = step_function(batch)
            if not workers.several(tf.distribute.get_strategy()):
                return logs
            return {key: tf.reshape(value, [1]) for key, value in logs.items()}

        return super()._make_function(step)

    def _named_loss(self, batch: Batch, training: bool) -> Logs:
        outputs = tf.nest.map_structure(full_precision, self.forward(batch, training=training))
        value = self.loss(outputs, batch)
        return value if isinstance(value, dict) else {"loss": value}

    def _gradients(self, batch: Batch, loss: Any, variables: list[Any], optimizer: Any) -> tuple[list[Any], Logs]:
        with tf.GradientTape() as tape, dropout_keys(batch.get("seed")):
            logs = loss(batch)
            total = sums.total([logs["loss"], *self.losses])
            total = optimizer.scale_loss(total / replicas.count())  # the optimizer sums over the replicas
        return tape.gradient(total, variables), logs

    def _clip(self, gradients: list[Any], optimizer: Any) -> list[Any]:
        """Clip the gradient of the joint batch, not each replica's part of it."""
        if not (self.clip_norm or self.clip_tensor_norm):
            return gradients
        present = replicas.total([tf.convert_to_tensor(g) for g in gradients if g is not None])
        scale = getattr(optimizer, "dynamic_scale", 1.0)
        if self.clip_tensor_norm:
            present = [tf.clip_by_norm(g, self.clip_tensor_norm * scale) for g in present]
        if self.clip_norm:
            present, _ = tf.clip_by_global_norm(present, self.clip_norm * scale)
        clipped = iter([g / replicas.count() for g in present])
        return [None if g is None else next(clipped) for g in gradients]


class EpochMeans(keras.callbacks.Callback):
    """Makes the epoch's figures the means over its steps, and stops at the first loss that is not a number."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: dict[str, float] = {}
        self.steps = 0

    def get_state(self) -> dict[str, Any]:
        return {"sums": self.sums, "steps": self.steps}

    def set_state(self, state: dict[str, Any]) -> None:
        self.sums, self.steps = state["sums"], state["steps"]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model.begin_epoch(epoch)
        self.sums, self.steps = {}, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        for key, value in (logs or {}).items():
            self.sums[key] = self.sums.get(key, 0.0) + float(value)
        if not np.isfinite(logs["loss"]):
            step = int(self.model.optimizer.iterations.numpy())
            rate = float(self.model.optimizer.learning_rate)
            raise TrainingError(
                f"{self.model.name}: the loss is {float(logs['loss'])} at step {step}, learning rate {rate:.3g}; "
                "lower optimizer.learning_rate, or set optimizer.clip_norm"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs.update({key: value / self.steps for key, value in self.sums.items()})


class _RestOfEpoch(keras.callbacks.CallbackList):
    """The callbacks of a training that goes on within an epoch, which Keras knows only whole: shortens the first epoch,
    and numbers its steps from where the epoch truly began."""

    def __init__(self, callbacks: list[Any], done: int, model: Method, verbose: Any, **params: Any):
        super().__init__(callbacks, add_history=True, add_progbar=verbose != 0, model=model, verbose=verbose, **params)
        self.done = done  # steps of the current epoch that an earlier training made

    def on_train_begin(self, logs: Any = None) -> None:
        self.iterator = self.model.epoch_iterator
        self.iterator.steps_per_epoch -= self.done
        super().on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for callback in self.callbacks:
            if not (self.done and hasattr(callback, "set_state")):
                callback.on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_begin(self.done + batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(self.done + batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_end(epoch, logs)
        self.iterator.steps_per_epoch += self.done
        self.done = 0


def _split(batch: Batch, parts: int) -> list[Batch]:
    if parts == 1:
        return [batch]
    pieces = {key: tf.split(value, parts) for key, value in batch.items()}
    return [{key: values[i] for key, values in pieces.items()} for i in range(parts)]
