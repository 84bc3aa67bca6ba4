"""Frozen features: the embedding of every example, computed once and then asked."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import track

from kzoo.data.resize import check_range
from kzoo.errors import EvaluationError

UNLABELLED = -1


@dataclass(frozen=True)
class Features:
    """Frozen features of n examples: `features` float32 [n,d], `labels` int64 [n] (-1: unlabelled), `ids` int64 [n]."""

    features: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    def take(self, which: np.ndarray) -> "Features":
        """The examples that a mask or an array of positions names."""
        return Features(self.features[which], self.labels[which], self.ids[which])

    @property
    def labelled(self) -> "Features":
        """The examples whose class is known."""
        return self.take(self.labels != UNLABELLED)


def embed(
    backbone: keras.Model,
    batches: Iterable[Mapping[str, Any]],
    feature: str = "embedding",
    console: Console | None = None,
) -> Features:
    """One of `embed_all`."""
    return embed_all(backbone, batches, (feature,), console)[feature]


def make_reader(backbone: keras.Model, wanted: Sequence[str]) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """From inputs to the outputs of these names, each averaged to one vector; one trace, whatever the batch."""
    for name in wanted:
        if name not in backbone.output:
            raise EvaluationError(f"evaluate: the backbone has no output {name!r}; it has {', '.join(backbone.output)}")

    signature = [tf.TensorSpec(backbone.input_shape, tf.as_dtype(backbone.input.dtype))]

    @tf.function(input_signature=signature, autograph=False)
    def read(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = backbone(inputs, training=False)
        values = {name: tf.cast(outputs[name], tf.float32) for name in wanted}
        return {name: tf.reduce_mean(value, list(range(1, value.shape.rank - 1))) for name, value in values.items()}

    return read


def embed_all(
    backbone: keras.Model,
    batches: Iterable[Mapping[str, Any]],
    wanted: Sequence[str],
    console: Console | None = None,
    read: Callable[[tf.Tensor], dict[str, tf.Tensor]] | None = None,
) -> dict[str, Features]:
    """Features of every example, in the order of the batches, with the backbone in inference mode, all in one pass.

    Args:
        backbone: maps float images in [0, 1] to a dict of outputs. Its weights and moving statistics stay as they are.
        batches: dicts with `image` float [b,h,w,c] in [0, 1], or `tokens` int [b,T]; `id` [b] and, where known,
            `label` [b].
        wanted: the outputs to read. Feature maps [b,h,w,C] and tokens [b,T,D] are averaged to one vector.
        console: where to show the progress; None shows none.
        read: of `make_reader`, where it is called more than once.

    Raises:
        EvaluationError: no examples, images that are not float, an unknown output, or features that are not numbers.
        DataError: images of 0 to 255.
    """

    read = read or make_reader(backbone, wanted)
    kind, key = tf.as_dtype(backbone.input.dtype), backbone.inputs[0].name
    features: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    labels, ids = [], []
    for batch in track(batches, "embedding", console=console, transient=True, disable=console is None):
        inputs = tf.convert_to_tensor(batch[key if key in batch else "image"])
        if kind.is_floating and not inputs.dtype.is_floating:
            raise EvaluationError(
                f"evaluate: images must be float in [0, 1]; scale them. Received: {inputs.dtype.name}"
            )
        check_range(inputs)
        for name, value in read(tf.cast(inputs, kind)).items():
            features[name].append(value.numpy())
        ids.append(np.asarray(batch["id"], np.int64))
        labels.append(np.asarray(batch.get("label", np.full(len(ids[-1]), UNLABELLED)), np.int64))
    if not ids:
        raise EvaluationError("evaluate: the split holds no examples; name another split or relax its filter")
    rows = np.concatenate(labels), np.concatenate(ids)
    found = {name: Features(np.concatenate(values), *rows) for name, values in features.items()}
    for each in found.values():
        if broken := int(np.sum(~np.isfinite(each.features).all(axis=1))):
            raise EvaluationError(
                f"evaluate: {broken} of {len(each)} embeddings are not numbers; the weights are damaged"
            )
    return found
