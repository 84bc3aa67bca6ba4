"""`Bridge`: the half of `kzoo.Method` that Keras sees: compile, fit, streams, saving.

It owns what is easy to get wrong and silent when wrong: building before compile, one optimizer for each group, where
the training stands in time, resuming within an epoch, logs that are means.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from kzoo import optimizers, replicas, sums
from kzoo.base.epochs import EpochMeans, RestOfEpoch
from kzoo.base.steps import Batch, Logs, StepLogs, Update
from kzoo.data.arrays import array_source
from kzoo.data.chosen import chosen_of
from kzoo.data.resize import to_float
from kzoo.data.source import Source
from kzoo.data.streams import training_stream
from kzoo.distribute import workers, xla
from kzoo.errors import DataError, StrategyError
from kzoo.losses import full_precision
from kzoo.options import Options
from kzoo.random import fold_in
from kzoo.schedules import Time
from kzoo.specs import DataFacts, too_few
from kzoo.system.private import KerasTraining


class Bridge(KerasTraining):
    """What Keras calls, and what a training needs to know. See `kzoo.Method` for what a method is."""

    backbone: keras.Model
    options: Options
    xla: bool
    least_examples: int
    data: DataFacts
    optimizers: dict[str, keras.optimizers.Optimizer]

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The downstream embedding `[B, D]` of images, uint8 or float in [0, 1], `[B, H, W, C]`."""
        return self.encoder(to_float(images), training=training)["embedding"]  # type: ignore[attr-defined]

    def compile(
        self,
        optimizer: Any = "adam",
        *,
        clip_norm: float | None = None,
        clip_tensor_norm: float | None = None,
        accumulate: int = 1,
        total_steps: int | None = None,
        steps_per_epoch: int | None = None,
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
            steps_per_epoch: for what goes by epochs; none: `fit` tells.
            jit_compile: "auto" means XLA on one accelerator only, where it can compile the step; on the CPU it makes
                steps several times slower.

        Raises:
            StrategyError: the optimizer clips by itself under several replicas, where it would clip each replica's
                part of the gradient; or float16 is asked for there.
        """
        self.may_do_without_xla = jit_compile == "auto"
        if jit_compile == "auto":
            jit_compile = self.xla and replicas.count() == 1 and bool(tf.config.list_physical_devices("GPU"))
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        own: keras.optimizers.Optimizer = self.optimizer  # type: ignore[has-type]
        self.optimizers = {}
        for number, (name, group) in enumerate(self.optimizer_groups().items()):
            changed = number > 0 or group.lr_scale != 1.0 or group.weight_decay is not None or group.constant_rate
            settings = group.lr_scale, group.weight_decay, group.constant_rate
            each = optimizers.another(own, *settings) if changed else own
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
        self.steps_per_epoch, self.first_step = steps_per_epoch, 0

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

        Raises:
            TrainingError: `jit_compile=True`, and XLA cannot compile the step; where that was "auto", it warns.
        """
        self._count_from(start_step, epochs * steps_per_epoch, steps_per_epoch)
        xla.ask(self, batches)
        every: Any = list(callbacks)
        if not any(isinstance(callback, EpochMeans) for callback in every):
            every.insert(0, EpochMeans())
        initial_epoch, done = divmod(start_step, steps_per_epoch)
        if done:
            told = {"verbose": kwargs.get("verbose", "auto"), "epochs": epochs, "steps": steps_per_epoch}
            every = RestOfEpoch(every, done, self, **told)
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

    def _count_from(self, start_step: int, total_steps: int, steps_per_epoch: int) -> None:
        """What `time` counts: from `compile` where that said the whole, else from this training's beginning."""
        counted = self.first_step, self.total_steps, steps_per_epoch
        if self.whole_steps is None:
            counted = int(self.optimizer.iterations.numpy()) - start_step, total_steps, steps_per_epoch
        if counted != (self.first_step, self.total_steps, self.steps_per_epoch):
            self.first_step, self.total_steps, self.steps_per_epoch = counted
            if self.asked_time:
                self.train_function = None  # which has the old ones in it

    def time(self) -> Time:
        """Where the training stands before this step; an epoch is the whole training where its steps are not known."""
        self.asked_time = True
        per_epoch = self.steps_per_epoch or self.total_steps
        if not per_epoch:
            return Time(tf.constant(0.0))
        step = tf.cast(tf.convert_to_tensor(self.optimizer.iterations) - self.first_step, tf.float32)
        epochs = self.total_steps / per_epoch if self.total_steps else math.inf
        return Time(step / per_epoch, epochs, 1.0 / per_epoch)

    def stream(self, source: Any, *, batch_size: int, seed: int, start_step: int = 0) -> Any:
        """The endless training batches of a `kzoo.data.Source`, laid over the replicas of the current strategy."""
        strategy = self.distribute_strategy
        shards = strategy.num_replicas_in_sync
        if batch_size % (shards * self.accumulate):
            raise StrategyError(
                f"train.batch_size: {batch_size} does not divide over {shards} replicas"
                + (f" x {self.accumulate} accumulated parts" if self.accumulate > 1 else "")
            )

        if batch_size // self.accumulate < self.least_examples:
            what = too_few(self.name, batch_size, self.accumulate, self.least_examples)
            raise StrategyError(f"train.batch_size: {what}")

        def pipeline(context: Any) -> tf.data.Dataset:
            local = shards // context.num_input_pipelines
            return training_stream(
                source,
                self._ready,
                batch_size=batch_size,
                seed=seed,
                choose=self._asked,
                start_step=start_step,
                shard_index=context.input_pipeline_id * local,
                shard_count=shards,
                local_shards=local,
            )

        if shards == 1:
            return pipeline(tf.distribute.InputContext())
        return strategy.distribute_datasets_from_function(pipeline)

    def transform(self, batch: Batch, keys: tf.Tensor) -> Batch:
        """A training batch from whole decoded examples, as `stream` makes it from what `choose` asks for."""
        return self._ready(chosen_of(batch, keys, self._asked, self.modality), keys)

    def _asked(self, known: Batch, keys: tf.Tensor) -> Batch:
        """What of each example is to be decoded, by `choose`."""
        return self.choose(known, fold_in(keys, "pretext"), self.options)

    def _ready(self, batch: Batch, keys: tf.Tensor) -> Batch:
        """The pretext, plus what every step may need: "id" and "seed", int64 `[B]`, for randomness inside the step."""
        ready = self.pretext(batch, fold_in(keys, "pretext"), self.options)
        return {"id": batch["id"], "seed": fold_in(keys, "step"), **ready}

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
            "data": self.data.as_json(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Self:
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects=custom_objects)
        options = cls.options_class()(**config["options"])
        return cls(backbone, options, data=DataFacts.from_json(config["data"]), name=config["name"])

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

    def prepared_step(self, step_function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Plain logs, with an axis over several workers: Keras averages them there along their first."""

        def step(batch: Any) -> dict[str, tf.Tensor]:
            logs = step_function(batch)
            if not workers.several(tf.distribute.get_strategy()):
                return dict(logs)
            return {key: tf.reshape(value, [1]) for key, value in logs.items()}

        return step

    def _named_loss(self, batch: Batch, training: bool) -> StepLogs:
        """The logs of `forward` and `loss`; in half precision both give float32."""
        outputs = tf.nest.map_structure(full_precision, self.forward(batch, training=training))
        value = self.loss(outputs, batch)
        return StepLogs(value if isinstance(value, dict) else {"loss": value}, outputs=outputs)

    def _updates(self, groups: Sequence[str]) -> list[Update]:
        known = self.optimizer_groups()
        return [
            Update(
                known[name],
                self.optimizers[name],
                frozen=self.time().epoch < float(until) if (until := known[name].frozen_until_epoch) else False,
            )
            for name in groups
        ]
