"""`Method`: what the author of a self-supervised method writes, and what it may call.

What is easy to get wrong and silent when wrong is elsewhere: dividing by the number of replicas, clipping and scaling
in `kzoo.base.steps`; building before compile, streams, time and saving in `kzoo.base.bridge`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from pydantic import ValidationError

from kzoo.base.bridge import Bridge
from kzoo.base.steps import Batch, Group, Logs, Step, StepLogs
from kzoo.data.source import Source
from kzoo.errors import OptionsError
from kzoo.modality import Modality, Signature
from kzoo.options import Options, place
from kzoo.plugins import targets
from kzoo.schedules import value_at
from kzoo.specs import DataFacts
from kzoo.system import surroundings

__all__ = ["Batch", "Group", "Logs", "Method", "Signature"]


class Method(Bridge):
    """A self-supervised method around a backbone.

    A subclass annotates `options: ItsOptions` and writes `pretext`, `build_heads`, `forward`, `loss`, and, where the
    paper does more than one gradient step on one loss, `train_step`.

    Args:
        backbone: a Functional model, float images in [0, 1] `[B, H, W, C]` to a dict with "embedding" `[B, D]`.
        options: the validated options; or give them one by one as keywords.
        data: what is known of the data to learn from: a `DataFacts`, or a source, whose facts are taken.

    Raises:
        OptionsError: an option is unknown or out of range.
        SurroundingsError: Keras is set to channels_first.
    """

    options: Options
    xla = True  # whether a step can be compiled with XLA; this and the next its record says too
    least_examples = 1  # that a step needs at once; 2 where the loss compares the examples of a batch
    visualised_examples = 6  # that `visualise` is given
    has_held_out_loss = True  # whether the pretext can be asked about examples that it was not trained on

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable(package=cls.__module__.partition(".")[0])(cls)

    def __init__(
        self,
        backbone: keras.Model,
        options: Options | None = None,
        *,
        data: DataFacts | Source | None = None,
        name: str | None = None,
        **values: Any,
    ):
        surroundings.refuse_by_hand()
        super().__init__(name=name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower())
        del self.loss  # Keras keeps the loss= argument of compile() under the name of our method
        if options is None:
            try:
                options = self.options_class()(**values)
            except ValidationError as error:
                raise OptionsError(
                    [f"{self.name}: {'.'.join(map(str, place(e)))}: {e['msg']}" for e in error.errors()]
                ) from None
        self.backbone = backbone
        self.options = options
        self.data = data.facts if isinstance(data, Source) else data or DataFacts()
        self.optimizers: dict[str, keras.optimizers.Optimizer] = {}
        self.whole_steps: int | None = None  # of the training, as compile was told
        self.total_steps: int | None = None  # of the training that is under way
        self.first_step = 0  # of that training, in steps of the optimizer
        self.steps_per_epoch: int | None = None
        self.asked_time = False  # whether a step reads it: then it is traced anew where it is counted otherwise
        self.clip_norm: float | None = None
        self.clip_tensor_norm: float | None = None
        self.accumulate = 1
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

    @staticmethod
    def choose(known: Batch, seed: tf.Tensor, options: Any) -> Batch:
        """What to decode of each example, before a pixel of it is: of clips the numbers of some frames.

        Pure as `pretext`, which gets the same seed, what was decoded, and all that this returns.

        Args:
            known: what is known of the examples without decoding them: "id", and of clips "time", float32 `[B, T]`,
                the seconds of their frames, "clip", int64 `[B]`, the video, and what else the source tells.
            seed: int64 `[B]`, one key per example. options: the method's options.

        Returns:
            {"frame": int32 `[B, k]`, from 0 to T - 1, in any order}, and whatever else `pretext` must know of the
            choice; the batch then has these k frames, and their times. {}: examples are decoded whole.
        """
        return {}

    def build_heads(self) -> None:
        """Create and build what the method adds to the backbone; `self.width` is the width of the embedding."""

    def forward(self, batch: Batch, training: bool) -> Batch:
        """The outputs that `loss` reads, from a batch that `pretext` made."""
        raise TypeError(f"{type(self).__name__} must define forward(batch, training)")

    def loss(self, outputs: Batch, batch: Batch) -> tf.Tensor | Logs:
        """A scalar: the mean over this replica's examples. Half-precision outputs arrive as float32.

        Or a dict of scalars to log, whose "loss" is minimised: {"loss": ..., "accuracy": ...}.
        """
        raise TypeError(f"{type(self).__name__} must define loss(outputs, batch)")

    def train_step(self, batch: Batch) -> Logs:
        """One step of the paper, in the paper's order. By default: `minimise`."""
        return self.minimise(batch)

    def optimizer_groups(self) -> dict[str, Group]:
        """Which variables each optimizer updates, the main one first. By default one holds all that are trainable.

        `compile` makes an optimizer of the recipe's kind for each. `minimise` updates all of them by one gradient, or
        those that it is told: a GAN has two, and a step for each.
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

    def signatures(self) -> dict[str, Signature]:
        """What an export returns besides the embedding, by name: classify, reconstruct, depth.

        Functions from float32 images in [0, 1] `[B, H, W, C]`, or int32 tokens `[B, T]`, to a dict of tensors whose
        first axis is B, in inference mode. The weights they read are kept with the run.
        """
        return {}

    def chance(self) -> dict[str, float]:
        """What figures that `loss` logs are worth without learning, e.g. {"loss": log 4, "accuracy": 0.25}."""
        return {}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """What the trained method makes of a pretext batch, to be drawn: columns by title, a row for each example.

        Args:
            raw: the examples as they are. batch: what `pretext` made of them.

        Returns:
            pictures, float `[n, h, w, C]` in [0, 1], or captions, n strings; {} where there is nothing to see.
        """
        return {}

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
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
        return self.backbone.input_shape[-2] or getattr(self.options, "size", None) or 32

    @property
    def modality(self) -> Modality:
        """The kind of data it learns from: that of `data`, or, where that is not known, what the backbone takes."""
        known = self.data.modality
        return targets.modality(known) if known else targets.modality_taking(self.backbone.inputs[0].name)

    def blank_examples(self) -> dict[str, np.ndarray]:
        """Two raw examples of zeros, which build the method: {"image": ...}, or {"tokens": ...} where that is read."""
        return self.modality.blank(self.data, self.backbone.input_shape[1:], self.input_size)

    def embed(self, images: tf.Tensor, training: bool) -> tf.Tensor:
        """The backbone's embedding `[B, D]` of float images in [0, 1]."""
        return self.backbone(images, training=training)["embedding"]

    def require_examples(self) -> int:
        """The number of training examples. Raises OptionsError where it was not given."""
        if self.data.examples is None:
            raise OptionsError(
                [f"{self.name}: remembers every example; tell their number on building it: data=source, or DataFacts"]
            )
        return self.data.examples

    def require_classes(self) -> tuple[str, ...]:
        """The names that labels index. Raises OptionsError where none are known."""
        if not self.data.classes:
            raise OptionsError(
                [f"{self.name}: learns from labels; tell their names on building it: data=source, or DataFacts"]
            )
        return self.data.classes

    def epoch(self) -> tf.Tensor:
        """Epochs that are done before this step, with their fraction: a float32 scalar, in the graph."""
        return tf.cast(self.time().epoch, tf.float32)

    def progress(self) -> tf.Tensor:
        """Share of the training that is done before this step, float32 in [0, 1]; 0 where its end is not known."""
        return self.time().share()

    def trainable_but(self, others: Sequence[keras.Variable]) -> list[keras.Variable]:
        """The trainable variables without these: the main group beside one of its own."""
        apart = {id(variable) for variable in others}
        return [variable for variable in self.trainable_variables if id(variable) not in apart]

    def value(self, option: Any) -> tf.Tensor:
        """What an option that may be a schedule (`kzoo.schedules`) is worth in this step: a full-precision scalar."""
        return tf.cast(value_at(option, self.time()), self.variable_dtype)

    def minimise(
        self, batch: Batch, *, loss: Callable[[Batch], Logs] | None = None, groups: str | Sequence[str] = ()
    ) -> StepLogs:
        """One optimizer step on a loss that is a mean over this replica's examples.

        Args:
            loss: `batch -> {"loss": scalar, more to log}`; by default `forward` and `loss`.
            groups: which of `optimizer_groups` to update, by one gradient; by default all.

        Returns:
            logs of this replica, "loss" among them, which Keras averages over the replicas. `logs.outputs` is what
            `forward` returned, of the whole batch also where it was accumulated; {} with a `loss` of your own.
        """
        names = [groups] if isinstance(groups, str) else list(groups or self.optimizers)
        step = Step(
            loss=lambda part: StepLogs(loss(part)) if loss else self._named_loss(part, training=True),
            updates=self._updates(names),
            accumulate=self.accumulate,
            clip_norm=self.clip_norm,
            clip_tensor_norm=self.clip_tensor_norm,
            regularisation=lambda: self.losses,
        )
        return step(batch)
