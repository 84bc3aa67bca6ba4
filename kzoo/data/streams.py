"""The two ways to read a source of examples: an endless training stream, and a finite evaluation pass."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from kzoo.data import labels
from kzoo.data.chosen import Choose, chosen_of
from kzoo.data.source import Batch, Source, as_written
from kzoo.errors import DataError, StrategyError
from kzoo.plugins import targets
from kzoo.random import example_keys, fold_in

# Batches transformed at once. Each holds all its views, and the operations inside run in parallel too: not AUTOTUNE,
# which takes one per core.
_TRANSFORMS = min(8, max(2, (os.cpu_count() or 2) // 4))


def training_stream(
    source: Source,
    transform: Callable[[Batch, tf.Tensor], Any],
    *,
    batch_size: int,
    seed: int,
    choose: Choose | None = None,
    start_step: int = 0,
    shard_index: int = 0,
    shard_count: int = 1,
    local_shards: int = 1,
) -> tf.data.Dataset:
    """The endless training batches of one worker, from a global step on.

    The batch of step s in epoch e is positions s * B to (s + 1) * B of the epoch's order, which is a pure function of
    `seed` and e; replica r of R gets the r-th of R equal parts. An epoch has size // B steps and leaves the rest out.
    So a stream that starts at step k equals one that ran up to k, and R replicas together see what one sees.
    Where a share of each batch is drawn from the labelled examples (`kzoo.data.labels`), an epoch has as many steps,
    and both parts have orders of their own, pure functions of `seed` and e too.

    Args:
        transform: from a batch of decoded examples and their keys (int64 `[b]`, see `kzoo.random`) to what is fed to
            the model; it runs in `tf.data`, as written, without AutoGraph. Its randomness must come from the keys.
        batch_size: of all replicas together, B.
        choose: from what is known of a batch of examples before they are decoded, and their keys, to what is asked for
            of each (`Method.choose`); `transform` then gets that alone. None: examples are decoded whole.
        start_step: the first global step to emit; steps before it are skipped without being decoded.
        shard_index: the first replica of this worker. shard_count: replicas of all workers, R.
        local_shards: replicas of this worker; each step emits their batches, of B / R examples, in turn.

    Raises DataError (fewer than B examples) and StrategyError (B does not divide by R, or no such replicas).
    """
    if batch_size > source.size:
        raise DataError(
            f"{source.name}: {source.size} examples do not fill one batch of {batch_size}; lower batch_size"
        )
    if batch_size % shard_count:
        raise StrategyError(f"train.batch_size: {batch_size} does not divide by {shard_count} replicas")
    if not 0 <= shard_index < shard_index + local_shards <= shard_count:
        raise StrategyError(f"no replicas {shard_index} to {shard_index + local_shards - 1} among {shard_count}")
    steps = source.size // batch_size
    share = batch_size // shard_count
    transform = as_written(transform)
    first_epoch, first_step = divmod(start_step, steps)
    if source.labelled_share is not None:
        places, table = labels.labelled_places(batch_size, source.labelled_share), labels.labelled_elements(source)
        with_label = tf.constant(places)

    @as_written
    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        order = fold_in(example_keys(seed, number, tf.zeros([1], tf.int64)), "order")[0]
        first = tf.where(number == first_epoch, np.int64(first_step), np.int64(0))
        if source.labelled_share is None:
            elements = source.examples(seed=order).enumerate().take(steps * batch_size).skip(first * batch_size)
        else:
            elements = labels.mixed_examples(source, table, places, order, steps, first).enumerate(first * batch_size)
        if local_shards < shard_count:
            elements = elements.filter(mine)
        return elements.map(as_written(lambda position, raw: (number, position, raw)))

    @as_written
    def mine(position: tf.Tensor, _: Any) -> tf.Tensor:
        replica = position % batch_size // share
        return (replica >= shard_index) & (replica < shard_index + local_shards)

    @as_written
    def finish(number: tf.Tensor, position: tf.Tensor, batch: Any) -> Any:
        keys = example_keys(seed, number[0], position)
        decoded = asked_for(partial(source.decode, batch), keys) if source.batched else batch
        if source.labelled_share is not None:
            seen = tf.gather(with_label, position % batch_size)
            decoded = {**decoded, "label": tf.where(seen, decoded["label"], np.int64(labels.UNLABELLED))}
        return transform(decoded, keys)

    def asked_for(decode: Callable[..., Batch], keys: tf.Tensor) -> Batch:
        if choose is None:
            return decode()
        modality = targets.modality(source.modality)
        return chosen_of(decode(), keys, choose, modality, decode if source.chooses else None)

    @as_written
    def decode_one(number: tf.Tensor, position: tf.Tensor, raw: Any) -> Any:
        def decode(*asked: Batch) -> Batch:
            return _as_batch(source.decode(raw, *_alone(asked)))

        return number, position, _alone(asked_for(decode, example_keys(seed, number, position[None])))

    stream = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch)
    if not source.batched:
        stream = stream.map(decode_one, num_parallel_calls=tf.data.AUTOTUNE)
    stream = stream.batch(share, drop_remainder=True).map(finish, num_parallel_calls=_TRANSFORMS)
    return deterministic(stream.prefetch(2 * local_shards))


def _as_batch(example: Any) -> Any:
    return tf.nest.map_structure(lambda value: tf.expand_dims(value, 0), example)


def _alone(batch: Any) -> Any:
    return tf.nest.map_structure(lambda value: tf.squeeze(value, 0), batch)


def evaluation_batches(
    source: Source, batch_size: int, size: int | None = None, ids: np.ndarray | None = None, key: str = ""
) -> tf.data.Dataset:
    """Every example once, in the fixed order; the last batch may be smaller, and none is empty.

    Elements: {"id": int64 [b], "image": float32 [b, H, W, C] in [0, 1], "label": int64 [b]}, and what else the source
    decodes; text as it is; of another modality, what `Modality.ready` makes of it.
    size: if given, H = W = size; images of another size get their shorter side resized, then a central crop.
    ids: if given, only these examples, still in the fixed order; the others are not decoded.
    key: what the backbone takes, where that is not the modality's own: "image", of video.
    """
    modality = targets.modality(source.modality)

    @as_written
    def finish(batch: Any) -> Batch:
        decoded = source.decode(batch) if source.batched else batch
        return modality.ready(decoded, size, key or modality.key)

    elements = source.examples()
    if ids is not None:
        mask = np.zeros(source.size, bool)
        mask[ids] = True
        wanted = tf.constant(mask)
        elements = elements.enumerate().filter(as_written(lambda position, raw: tf.gather(wanted, position)))
        elements = elements.map(as_written(lambda position, raw: raw))
    if not source.batched:
        elements = elements.map(as_written(source.decode), num_parallel_calls=tf.data.AUTOTUNE)
    return deterministic(elements.batch(batch_size).map(finish, num_parallel_calls=_TRANSFORMS).prefetch(2))


def deterministic(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset in its own order, and not tuned while it runs.

    The thread that tunes sleeps up to a minute at a time, and in TensorFlow 2.21 may sleep on when its iterator is
    deleted, which waits for it: at the end of a run, or wherever Python's garbage collection finds the iterator.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    return dataset.with_options(options)
