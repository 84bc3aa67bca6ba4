"""State that outlives a step and must be the same on every replica: EMA teacher, queue of keys, memory bank.

Each owner computes its new value from what is equal everywhere (the weights, a gathered batch), so that every replica
writes the same numbers into its own copy and no exchange is needed beyond the gather.
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from kzoo import replicas
from kzoo.errors import OptionsError
from kzoo.random import fold_in, uniform

_FILLED = 1 << 14  # rows of a bank that are drawn at once: 17 MB at width 128, before rounding
_COMPARED = 1 << 16  # rows of a bank that are compared at once


class EMATeacher(keras.layers.Layer):
    """Copies of some student models that follow them by an exponential moving average of the weights.

    The copies start equal to the students. They never receive a gradient and no optimizer owns them; yet their layers
    stay trainable, because a frozen Keras batch normalisation would silently use moving statistics where the papers use
    those of the batch. Only weights are averaged: each network keeps the moving statistics of what it has seen.

    Args:
        students: built models, e.g. `[backbone, projector]`. The copies are `teacher.models`, in the same order.
    """

    def __init__(self, students: Sequence[keras.Model], name: str = "teacher"):
        super().__init__(name=name)
        # not clone_model, which rebuilds layer by layer and cannot rebuild a model that knows how to rebuild itself
        self.models = [type(student).from_config(student.get_config()) for student in students]
        pairs: list[tuple[keras.Variable, keras.Variable]] = []
        for copy, student in zip(self.models, students, strict=True):
            if not copy.built:
                copy.build(student.input_shape)
            copy.set_weights(student.get_weights())  # the copies drew new ones
            pairs += zip(copy.trainable_variables, student.trainable_variables, strict=True)
        for ours, _ in pairs:
            ours.trainable = False  # the variable, not its layer
        self._pairs = lambda: pairs  # a function, so that Keras does not count the student's variables as the teacher's
        self.built = True

    def call(self, x: tf.Tensor, training: bool = True) -> tf.Tensor:
        """Pass `x` through the copies one after the other; a dict of outputs passes on its "embedding"."""
        for model in self.models:
            x = model(x, training=training)
            x = x["embedding"] if isinstance(x, dict) else x
        return tf.stop_gradient(x)

    @property
    def pairs(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Each averaged variable, and the student's that it follows."""
        return self._pairs()

    def update(self, momentum: float | tf.Tensor) -> None:
        """teacher <- momentum * teacher + (1 - momentum) * student, for every weight; momentum of any float type."""
        for ours, theirs in self.pairs:
            teacher, student = replicas.local(ours), replicas.local(theirs)
            keep = tf.cast(momentum, teacher.dtype) if tf.is_tensor(momentum) else momentum
            teacher.assign(keep * teacher + (1.0 - keep) * student)


class Queue(keras.layers.Layer):
    """The last `size` keys in order of arrival, `[size, width]`, unit-norm; MoCo's dictionary (He et al. 2020).

    Starts as random unit vectors. `enqueue` gathers the keys of all replicas and overwrites the oldest.
    """

    def __init__(self, size: int, width: int, seed: int = 0, name: str = "queue"):
        super().__init__(name=name)
        self.size, self.width = size, width
        self.keys = self.add_weight(name="keys", shape=(size, width), initializer=_unit_rows(seed), trainable=False)
        self.pointer = self.add_weight(name="pointer", shape=(), initializer="zeros", trainable=False, dtype="int64")
        self.built = True

    def read(self) -> tf.Tensor:
        """The keys, `[size, width]`, without gradient."""
        return tf.stop_gradient(replicas.local(self.keys).read_value())

    def enqueue(self, keys: tf.Tensor) -> None:
        """Overwrite the oldest entries with `keys` `[b, width]` of all replicas; B must divide `size`."""
        keys = replicas.gather(tf.stop_gradient(tf.cast(keys, self.keys.dtype)))
        batch = keys.shape[0]
        if batch is not None and self.size % batch:
            raise OptionsError(
                f"method.options.queue: {self.size} is not a multiple of the global batch {batch}; choose one that is"
            )
        memory, pointer = replicas.local(self.keys), replicas.local(self.pointer)
        start = pointer.read_value()
        rows = start + tf.range(tf.shape(keys, out_type=tf.int64)[0])
        memory.scatter_update(tf.IndexedSlices(keys, rows))  # in place: the queue is never copied
        pointer.assign((start + tf.shape(keys, out_type=tf.int64)[0]) % self.size)


class MemoryBank(keras.layers.Layer):
    """One slot of width `width` for each of `size` examples, addressed by `id` (Wu et al. 2018, section 3.2).

    Costs size * width * 4 bytes on every replica: 0.66 GB for 1.28 million x 128. Entries are filled, read and written
    in place, some rows at a time; only `all` copies them. They start uniform in +-sqrt(3 / width), of norm about 1,
    entry i the same whatever the size.
    """

    def __init__(self, size: int, width: int, seed: int = 0, name: str = "bank"):
        super().__init__(name=name)
        self.size, self.width = size, width
        self.entries = self.add_weight(name="entries", shape=(size, width), initializer="zeros", trainable=False)
        bound = math.sqrt(3.0 / width)
        for start in range(0, size, _FILLED):
            rows = tf.range(start, min(start + _FILLED, size), dtype=tf.int64)
            values = uniform(fold_in(rows, seed), (width,), -bound, bound)
            for copy in replicas.copies(self.entries):
                copy.scatter_update(tf.IndexedSlices(tf.cast(values, copy.dtype), rows))
        self.built = True

    def read(self, ids: tf.Tensor) -> tf.Tensor:
        """The entries of `ids` (any shape, in [0, size)), `[..., width]`, without gradient."""
        return tf.stop_gradient(tf.gather(replicas.local(self.entries), ids))

    def all(self) -> tf.Tensor:
        """A copy of all entries, `[size, width]`, without gradient."""
        return tf.stop_gradient(replicas.local(self.entries).read_value())

    def nearest(self, features: tf.Tensor, k: int) -> tf.Tensor:
        """The ids, int32 `[b, k]`, of the entries with the largest dot products with `features` `[b, width]`.

        The most similar first, of equal ones the lower id. Holds b * (k + 65,536) similarities at once.
        """
        features = tf.stop_gradient(tf.cast(features, self.entries.dtype))
        batch, block = tf.shape(features)[0], min(self.size, _COMPARED)
        lowest = tf.constant(features.dtype.min, features.dtype)

        def merge(start: tf.Tensor, best: tf.Tensor, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            rows = start + tf.range(block)  # the last block may reach beyond the end: XLA wants blocks of one size
            similarity = tf.matmul(features, self.read(tf.minimum(rows, self.size - 1)), transpose_b=True)
            similarity = tf.where(rows < self.size, similarity, lowest)
            best, at = tf.math.top_k(tf.concat([best, similarity], axis=1), k)
            ids = tf.concat([ids, tf.repeat(rows[None], batch, axis=0)], axis=1)
            return start + block, best, tf.gather(ids, at, batch_dims=1)

        # a block may hold fewer than k: begin with k that any entry beats
        none = (tf.constant(0), tf.fill([batch, k], lowest), tf.zeros([batch, k], tf.int32))
        unknown = (tf.TensorShape([]), tf.TensorShape([None, k]), tf.TensorShape([None, k]))
        _, _, ids = tf.while_loop(
            lambda start, *_: start < self.size, merge, none, shape_invariants=unknown, parallel_iterations=1
        )
        return ids

    def blend(self, ids: tf.Tensor, features: tf.Tensor, momentum: float) -> None:
        """entry <- L2(momentum * entry + (1 - momentum) * feature) for the `ids` `[b]` of every replica.

        Where an id comes more than once in the batch, its last feature counts, on every device alike.
        """
        ids = replicas.gather(ids)
        features = replicas.gather(tf.stop_gradient(tf.cast(features, self.entries.dtype)))
        place = tf.range(tf.shape(ids)[0])
        last = tf.reduce_max(tf.where(ids[:, None] == ids[None], place, -1), axis=1)
        features = tf.gather(features, last)
        blended = tf.math.l2_normalize(momentum * self.read(ids) + (1.0 - momentum) * features, axis=-1)
        replicas.local(self.entries).scatter_update(tf.IndexedSlices(blended, ids))


class Centre(keras.layers.Layer):
    """A moving mean of vectors of width `width` over all replicas, `[width]`; DINO's centre (Caron et al. 2021, 3.1).

    Starts at 0. `update`: centre <- momentum * centre + (1 - momentum) * mean of the rows.
    """

    def __init__(self, width: int, momentum: float = 0.9, name: str = "centre"):
        super().__init__(name=name)
        self.momentum = momentum
        self.value = self.add_weight(name="value", shape=(width,), initializer="zeros", trainable=False)
        self.built = True

    def read(self) -> tf.Tensor:
        """The centre, `[width]`, without gradient."""
        return tf.stop_gradient(replicas.local(self.value).read_value())

    def update(self, rows: tf.Tensor) -> None:
        """Move towards the mean of `rows` `[b, width]` of all replicas, which hold equally many."""
        variable = replicas.local(self.value)
        rows = tf.cast(tf.stop_gradient(rows), variable.dtype)
        mean = replicas.mean(tf.reduce_mean(rows, axis=0))
        variable.assign(self.momentum * variable + (1.0 - self.momentum) * mean)


def _unit_rows(seed: int):
    normal = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
    return lambda shape, dtype=None: tf.math.l2_normalize(normal(shape, dtype=dtype), axis=-1)
