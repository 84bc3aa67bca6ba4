"""Images as patches: how a method shows a backbone only some of them, or puts a learned vector in the place of others.

A backbone that can, has two layers in its graph, which in an ordinary call change nothing: `MaskedPatches` right after
the projection of the patches, and `KeptPatches` after their positions were added. Its record says so in `abilities`:
"masked_tokens" for the first, "token_subset" for the second. Methods then need no name of any of its layers:

    patches.encode_kept(backbone, images, kept, training)            # MAE: tokens of the kept patches alone
    patches.encode_masked(backbone, images, hidden, token, training)  # SimMIM: all tokens, the hidden ones replaced

Patches are numbered row by row.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.errors import OptionsError
from kzoo.random import fold_in, integers
from kzoo.system.private import every_layer

# what the two layers find in a call; read while tracing, and each replica's thread has its own
_kept: ContextVar[tf.Tensor | None] = ContextVar("kept", default=None)
_masked: ContextVar[tuple[tf.Tensor, tf.Tensor] | None] = ContextVar("masked", default=None)


@keras.saving.register_keras_serializable(package="kzoo")
class MaskedPatches(keras.layers.Layer):
    """Where `encode_masked` puts its vector in place of hidden patches; by itself it changes nothing.

    Stands right after the projection, before positions are added. Input shape: `[B, h, w, D]`. Output shape: the same.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.width = input_shape[-1]

    def call(self, inputs: Any) -> Any:
        masked = _masked.get()
        if masked is None:
            return inputs
        hidden, token = masked
        x = tf.convert_to_tensor(inputs)
        return tf.where(tf.reshape(hidden, tf.shape(x)[:3])[..., None], tf.cast(token, x.dtype), x)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


@keras.saving.register_keras_serializable(package="kzoo")
class KeptPatches(keras.layers.Layer):
    """Patches, with their positions, as tokens row by row: all of them, or those that `encode_kept` keeps.

    Args:
        patch_size: side of a patch in pixels.
    Input shape: `[B, h, w, D]`. Output shape: `[B, h * w, D]`, in `encode_kept` `[B, k, D]`.
    """

    def __init__(self, patch_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def call(self, inputs: Any) -> Any:
        x = tf.convert_to_tensor(inputs)
        _, height, width, depth = x.shape
        known = height is not None and width is not None
        tokens = tf.reshape(x, [-1, height * width, depth] if known else [tf.shape(x)[0], -1, depth])
        kept = _kept.get()
        return tokens if kept is None else tf.gather(tokens, kept, batch_dims=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, depth = input_shape
        return batch, None if height is None or width is None else height * width, depth

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "patch_size": self.patch_size}


@keras.saving.register_keras_serializable(package="kzoo")
class MaskToken(keras.layers.Layer):
    """One learned vector `[width]`, which stands for every hidden patch in `encode_masked`.

    deviation: that it is drawn with.
    """

    def __init__(self, width: int, deviation: float = 0.02, name: str = "mask_token"):
        super().__init__(name=name)
        start = keras.initializers.TruncatedNormal(stddev=deviation) if deviation else "zeros"
        self.vector = self.add_weight(name="vector", shape=(width,), initializer=start)
        self.built = True

    def read(self) -> tf.Tensor:
        """The vector, with its gradient."""
        return tf.convert_to_tensor(self.vector)


@dataclass(frozen=True)
class Patches:
    """What a backbone says of its patches. size: their side in pixels. abilities: what it can do with some of them.
    width: of a projected patch, which is that of a token that stands for one; 0 where none can.
    """

    size: int
    width: int
    abilities: frozenset[str]

    def grid(self, images: tf.Tensor) -> tuple[int, int]:
        """Rows and columns of the patches of images `[B, H, W, C]` of known size."""
        return images.shape[1] // self.size, images.shape[2] // self.size


def patches_of(backbone: keras.Model, *needed: str, method: str = "it") -> Patches:
    """What a backbone says of its patches.

    needed: abilities that it must have. method: who needs them, for the message.
    Raises: OptionsError if it has no patches, or not these abilities.
    """
    found = {type(layer): layer for layer in every_layer(backbone)}
    kept, masked = found.get(KeptPatches), found.get(MaskedPatches)
    abilities = {ability for ability, layer in (("token_subset", kept), ("masked_tokens", masked)) if layer is not None}
    if kept is None or set(needed) - abilities:
        wanted = ", ".join(needed) or "patches"
        raise OptionsError(
            [f"{method}: needs a backbone that can do {wanted}, such as vit_tiny; '{backbone.name}' cannot"]
        )
    return Patches(kept.patch_size, 0 if masked is None else masked.width, frozenset(abilities))


@contextmanager
def _during(variable: ContextVar, value: Any) -> Iterator[None]:
    before = variable.set(value)
    try:
        yield
    finally:
        variable.reset(before)


def encode_kept(
    backbone: keras.Model, images: tf.Tensor, kept: tf.Tensor, training: bool = False
) -> dict[str, tf.Tensor]:
    """The backbone's outputs for some patches of each image; what is left out is never computed.

    images: float `[B, H, W, C]` in [0, 1]. kept: int `[B, k]`, the numbers of the patches, each at most once.
    Returns "tokens" `[B, k, D]` in the order of `kept`, and "embedding" `[B, D]`.
    """
    with _during(_kept, kept):
        return backbone(images, training=training)


def encode_masked(
    backbone: keras.Model, images: tf.Tensor, hidden: tf.Tensor, token: tf.Tensor, training: bool = False
) -> dict[str, tf.Tensor]:
    """The backbone's outputs for all patches, where a vector stands for those that are hidden.

    images: float `[B, H, W, C]` in [0, 1]. hidden: bool `[B, T]`. token: `[D]`, as wide as `Patches.width` says.
    """
    with _during(_masked, (hidden, token)):
        return backbone(images, training=training)


def per_token(head: Callable[[tf.Tensor], tf.Tensor], tokens: tf.Tensor) -> tf.Tensor:
    """What a head for vectors `[B, D]` makes of every token: `[B, T, D]` to `[B, T, K]`."""
    answers = head(tf.reshape(tokens, [-1, tokens.shape[-1]]))
    return tf.reshape(
        answers, [-1, tf.shape(tokens)[1] if tokens.shape[1] is None else tokens.shape[1], answers.shape[-1]]
    )


def place_blocks(keys: tf.Tensor, heights: tf.Tensor, widths: tf.Tensor, grid: tuple[int, int]) -> tf.Tensor:
    """Rectangles of these sizes where the key says, all places within the grid equally likely: bool `[B, T]`.

    keys: int64 `[B]`. heights, widths: int32 `[B]`, in patches; what is larger than the grid begins at its edge.
    """
    inside = []
    for name, lengths, side in zip(("top", "left"), (heights, widths), grid, strict=True):
        start = integers(fold_in(keys, name), (), 0, tf.maximum(side - lengths, 0) + 1)
        place = tf.range(side)[None]
        inside.append((place >= start[:, None]) & (place < (start + lengths)[:, None]))
    return tf.reshape(inside[0][:, :, None] & inside[1][:, None], [-1, grid[0] * grid[1]])


def patchify(images: tf.Tensor, size: int) -> tf.Tensor:
    """Images `[B, H, W, C]` as the values of their patches, row by row: `[B, T, size * size * C]`."""
    _, height, width, channels = images.shape
    rows, columns = height // size, width // size
    cut = tf.transpose(tf.reshape(images, [-1, rows, size, columns, size, channels]), [0, 1, 3, 2, 4, 5])
    return tf.reshape(cut, [-1, rows * columns, size * size * channels])


def unpatchify(values: tf.Tensor, size: int, grid: tuple[int, int]) -> tf.Tensor:
    """The inverse of `patchify`, for a grid of (rows, columns)."""
    channels = values.shape[-1] // (size * size)
    cut = tf.transpose(tf.reshape(values, [-1, *grid, size, size, channels]), [0, 1, 3, 2, 4, 5])
    return tf.reshape(cut, [-1, grid[0] * size, grid[1] * size, channels])


def sine_cosine_positions(height: int, width: int, dimension: int) -> np.ndarray:
    """Two-dimensional sine-cosine codes, float32 `[height, width, dimension]`; `dimension` must divide by 4.

    A quarter each for sin and cos of the row and of the column, over wavelengths from 2π towards 10000 · 2π.
    """
    frequencies = 10000.0 ** -(np.arange(dimension // 4) / (dimension // 4))
    places = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    angles = [place[..., None] * frequencies for place in places]
    return np.concatenate([part(angle) for angle in angles for part in (np.sin, np.cos)], axis=-1).astype("float32")


def _codes_of(height: tf.Tensor, width: tf.Tensor, dimension: int) -> tf.Tensor:
    """The same for sides that are known when the graph runs."""
    frequencies = tf.constant(10000.0 ** -(np.arange(dimension // 4) / (dimension // 4)), tf.float64)
    places = tf.meshgrid(tf.range(height), tf.range(width), indexing="ij")
    angles = [tf.cast(place, tf.float64)[..., None] * frequencies for place in places]
    return tf.cast(tf.concat([part(angle) for angle in angles for part in (tf.sin, tf.cos)], axis=-1), tf.float32)


@keras.saving.register_keras_serializable(package="kzoo")
class Positions(keras.layers.Layer):
    """Adds the fixed code of each patch's place. `[B, h, w, D]` to the same shape, for any h and w; no weights."""

    def call(self, inputs: Any) -> Any:
        x = tf.convert_to_tensor(inputs)
        _, height, width, dimension = x.shape
        if height is None or width is None:
            codes = _codes_of(tf.shape(x)[1], tf.shape(x)[2], dimension)
        else:
            codes = tf.constant(sine_cosine_positions(height, width, dimension))
        return x + tf.cast(codes, x.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape
