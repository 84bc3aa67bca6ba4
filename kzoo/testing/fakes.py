"""Small stand-ins for the tests of a method: random pictures, the batch a pretext makes of them, the method itself.

    from kzoo.testing.fakes import batch_of, build, images

    def test_the_loss_of_equal_views_is_zero():
        method = build("mine", temperature=0.2)
        batch = batch_of(method, images(8))
        ...

All of it is the same on every call and every machine.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.method import Batch, Method
from kzoo.plugins import targets
from kzoo.specs import DataFacts
from kzoo.testing.tiny import tiny_backbone


def images(count: int = 16, size: int = 16, channels: int = 3, seed: int = 0, *, cell: int = 1) -> np.ndarray:
    """Random pictures, uint8 `[count, size, size, channels]`.

    cell: side in pixels of the squares of one colour; 1 is noise, of which a crop keeps nothing.
    """
    cells = np.random.default_rng(seed).integers(0, 256, (count, size // cell, size // cell, channels))
    return cells.astype("uint8").repeat(cell, 1).repeat(cell, 2)


def batch_of(
    method: Method,
    pictures: np.ndarray,
    first_key: int = 0,
    *,
    first_id: int = 0,
    labels: Sequence[int] | None = None,
) -> Batch:
    """What the method's pretext makes of pictures, as `train_step` takes it.

    first_key: the examples' keys are this number and those after it; others draw otherwise. first_id: of their "id".
    labels: -1 where there is none.
    """
    count = len(pictures)
    raw = {"image": tf.constant(pictures), "id": tf.range(first_id, first_id + count, dtype=tf.int64)}
    if labels is not None:
        raw["label"] = tf.constant(labels, tf.int64)
    return method.transform(raw, tf.range(first_key, first_key + count, dtype=tf.int64))


def build(
    name: str,
    /,
    *,
    backbone: str | Callable[[tuple[int | None, ...]], keras.Model] = tiny_backbone,
    backbone_options: Mapping[str, Any] | None = None,
    shape: tuple[int | None, ...] = (16, 16, 3),
    data: DataFacts | None = None,
    learning_rate: float | None = None,
    total_steps: int | None = None,
    steps_per_epoch: int | None = None,
    **options: Any,
) -> Method:
    """A method by its registered name, around a new backbone, both with the weights of seed 0.

    backbone: a registered name, with `backbone_options`, or what makes one for an input shape (`kzoo.testing.tiny`);
    a tiny convnet where left out. data: what the method is told of the data. learning_rate: compiled with plain
    gradient descent at this rate; none: not compiled. options: of the method.
    """
    keras.utils.set_random_seed(0)
    if isinstance(backbone, str):
        network = targets.build_backbone(backbone, shape, **(backbone_options or {}))
    else:
        network = backbone(shape)
    method = targets.build_method(name, network, data=data, **options)
    if learning_rate is not None:
        optimizer = keras.optimizers.SGD(learning_rate)
        method.compile(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    return method
