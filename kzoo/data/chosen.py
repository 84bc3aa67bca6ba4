"""Examples of which only a part is decoded: what a method chose, by their keys, before any of it was."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import tensorflow as tf

from kzoo.data.source import Batch

if TYPE_CHECKING:
    from kzoo.modality import Modality

Choose = Callable[[Batch, tf.Tensor], Batch]


def chosen_of(
    batch: Batch,
    keys: tf.Tensor,
    choose: Choose,
    modality: "Modality",
    decode: Callable[[Batch], Batch] | None = None,
) -> Batch:
    """Of each example what `choose` asks for, with all that it returns; the whole batch where it returns nothing.

    batch: decoded examples. What is not needed of them, such as pixels, `tf.data` leaves out.
    keys: of the examples, int64 `[b]`. choose: from what is known without decoding, and the keys, to what is asked for.
    decode: decodes what is asked for alone; none: it is taken from the whole examples.
    """
    known = {name: value for name, value in batch.items() if name not in (modality.key, "label")}
    asked = choose(known, keys)
    if not asked:
        return batch
    return {**(decode(asked) if decode else modality.take(batch, asked)), **asked}
