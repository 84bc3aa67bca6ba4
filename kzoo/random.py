"""Randomness that belongs to the example, not to the batch.

Every draw is a pure function of a 64-bit key per example and a counter, so an example gets the same numbers whatever
the batch size, its place in the batch, the number of replicas, or whether the code runs eagerly, in a `tf.function` or
in `tf.data`. The generator is SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014): the n-th number of key k is `mix(k + n * golden)`.

Drawing twice from the same key gives the same numbers. Derive one key for each use:

    angle = uniform(fold_in(keys, "angle"), maxval=360.0)
    flip = bernoulli(fold_in(keys, "flip"), 0.5)

`keys` is always int64 `[B]`; B may be unknown. A shape is a tuple of integers or scalar int32 tensors.
"""

import functools
import math
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

Shape = Sequence[int | tf.Tensor]

_CONSTANT = 1 << 12  # counters that a graph may hold as they are; more of them are counted out when it runs


def _signed(value: int) -> np.int64:
    """The 64 low bits of an integer, as int64."""
    return np.uint64(value & 0xFFFF_FFFF_FFFF_FFFF).astype(np.int64)


# int64 throughout: it has multiplication and shifts on every device, uint64 has not. Overflow wraps, as intended.
_GOLDEN = _signed(0x9E37_79B9_7F4A_7C15)
_FIRST = _signed(0xBF58_476D_1CE4_E5B9)
_SECOND = _signed(0x94D0_49BB_1331_11EB)
_FOLD = _signed(0xD1B5_4A32_D192_ED03)  # sets the tags of fold_in apart from the counters of draws


def _shift(x: tf.Tensor, places: int) -> tf.Tensor:
    """Logical right shift: the arithmetic one, with the copies of the sign bit cleared."""
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(x, np.int64(places)), np.int64((1 << (64 - places)) - 1))


def _traced_once(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """An elementwise function of int64 as one node: a pretext draws dozens of times, and tracing that takes seconds."""

    @functools.cache
    def traced() -> Callable[[tf.Tensor], tf.Tensor]:
        with tf.init_scope():
            return tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec(None, tf.int64))

    def call(x: tf.Tensor) -> tf.Tensor:
        result = traced()(x)
        result.set_shape(x.shape)
        return result

    return call


def _mixed(x: tf.Tensor) -> tf.Tensor:
    """SplitMix64's finaliser: a bijection of 64-bit integers in which each input bit flips half of the output bits."""
    x = tf.bitwise.bitwise_xor(x, _shift(x, 30)) * _FIRST
    x = tf.bitwise.bitwise_xor(x, _shift(x, 27)) * _SECOND
    return tf.bitwise.bitwise_xor(x, _shift(x, 31))


def _upper_fraction(bits: tf.Tensor) -> tf.Tensor:
    """The 24 upper bits as a float32 multiple of 2^-24 in [0, 1): every one is exact."""
    return tf.cast(_shift(bits, 40), tf.float32) * np.float32(2**-24)


def _next_fraction(bits: tf.Tensor) -> tf.Tensor:
    """The same of the next 24 bits, which are independent."""
    return tf.cast(tf.bitwise.bitwise_and(_shift(bits, 16), np.int64(0xFF_FFFF)), tf.float32) * np.float32(2**-24)


def _counters(shape: Shape) -> np.ndarray | tf.Tensor:
    """1, 2, 3, ... times `_GOLDEN`, int64 of this shape."""
    if all(isinstance(size, int) for size in shape) and math.prod(shape) <= _CONSTANT:
        return (np.arange(1, math.prod(shape) + 1) * _GOLDEN).reshape(shape)
    sizes = tf.convert_to_tensor(list(shape), tf.int32)
    return tf.reshape(tf.range(1, tf.cast(tf.reduce_prod(sizes), tf.int64) + 1), sizes) * _GOLDEN


_mix = _traced_once(_mixed)
_fraction = _traced_once(lambda x: _upper_fraction(_mixed(x)))


def in_double(function: Callable[..., tf.Tensor], *values: tf.Tensor) -> tf.Tensor:
    """What a function of float32 numbers gives in float64, as float32.

    In float32, sin, cos, exp, log and powers round otherwise in vector and in scalar instructions, and the batch size
    decides which of its examples get the one and which the other.
    """
    return tf.cast(function(*(tf.cast(value, tf.float64) for value in values)), tf.float32)


def _box_muller(u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(-2.0 * tf.math.log(1.0 - u)) * tf.cos(2 * np.pi * v)  # 1 - u lies in (0, 1]: its log is finite


@_traced_once
def _gauss(x: tf.Tensor) -> tf.Tensor:
    """A standard normal number from 48 mixed bits."""
    bits = _mixed(x)
    return in_double(_box_muller, _upper_fraction(bits), _next_fraction(bits))


def _numbered(keys: tf.Tensor, shape: Shape) -> tf.Tensor:
    """What `_mix` makes 64 random bits of: int64 `[B, *shape]`."""
    return tf.reshape(keys, [-1, *[1] * len(shape)]) + _counters(shape)


def _bits(keys: tf.Tensor, shape: Shape) -> tf.Tensor:
    """64 random bits per element: int64 `[B, *shape]`."""
    return _mix(_numbered(keys, shape))


def fold_in(keys: tf.Tensor, tag: int | str | tf.Tensor) -> tf.Tensor:
    """Keys of an independent stream, int64 `[B]`.

    tag: what the stream is for: a name, a number (of a view, a step), or an integer tensor, scalar or `[B]`.
    """
    mixed = _mixed_tag(tag) if isinstance(tag, str | int) else _mix(_FOLD + tf.cast(tag, tf.int64) * _GOLDEN)
    return _mix(tf.bitwise.bitwise_xor(tf.convert_to_tensor(keys, tf.int64), mixed))


@functools.cache
def _mixed_tag(tag: str | int) -> np.int64:
    """What `fold_in` makes of a tag that is no tensor: the same every time."""
    number = zlib.crc32(tag.encode()) + (1 << 32) if isinstance(tag, str) else tag  # a name is beyond what is counted
    with tf.init_scope():  # a number, also while a graph is traced
        return _mix(_FOLD + tf.constant(_signed(number)) * _GOLDEN).numpy()


def example_keys(seed: int, epoch: int | tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """The keys of a batch, int64 `[B]`: one per example and epoch.

    seed: the run's seed. epoch: integer or integer scalar tensor.
    position: integer `[B]`; what names the example within the epoch (its id, or its place in the epoch's order).
    """
    return fold_in(fold_in(fold_in(tf.zeros_like(position, tf.int64), seed), epoch), position)


def uniform(
    keys: tf.Tensor, shape: Shape = (), minval: float | tf.Tensor = 0.0, maxval: float | tf.Tensor = 1.0
) -> tf.Tensor:
    """Float32 `[B, *shape]`, uniform in [minval, maxval). The bounds may be tensors that broadcast to the result."""
    return minval + (maxval - minval) * _fraction(_numbered(keys, shape))


def normal(keys: tf.Tensor, shape: Shape = ()) -> tf.Tensor:
    """Float32 `[B, *shape]`, standard normal (Box & Muller 1958), within ±5.8."""
    return _gauss(_numbered(keys, shape))


def bernoulli(keys: tf.Tensor, p: float | tf.Tensor) -> tf.Tensor:
    """Bool `[B]`, true with probability p: never for 0, always for 1."""
    return uniform(keys) < p


def mask(keys: tf.Tensor, shape: Shape, p: float) -> tf.Tensor:
    """Bool `[B, *shape]`, each true with probability p, to the nearest 1/65536: never for 0, always for 1.

    Four elements share the 64 bits of a draw, a quarter of the work of `uniform(...) < p`.
    """
    count = math.prod(shape)
    draws = (count + 3) // 4
    sixteens = tf.reshape(tf.bitcast(_bits(keys, (draws,)), tf.int16), [-1, 4 * draws])
    below = tf.cast(sixteens[:, :count], tf.int32) < round(p * 2**16) - 2**15
    return tf.reshape(below, [-1, *shape])


def integers(keys: tf.Tensor, shape: Shape, minval: int | tf.Tensor, maxval: int | tf.Tensor) -> tf.Tensor:
    """Int32 `[B, *shape]`, uniform over minval, ..., maxval - 1. The bounds may be tensors that broadcast to it."""
    span = tf.cast(maxval, tf.int64) - tf.cast(minval, tf.int64)
    # 32 random bits times the span, of which the upper half: no value is favoured by more than span / 2^32
    return tf.cast(minval, tf.int32) + tf.cast(_shift(_shift(_bits(keys, shape), 32) * span, 32), tf.int32)


def permutation(keys: tf.Tensor, n: int | tf.Tensor) -> tf.Tensor:
    """Int32 `[B, n]`: each row the numbers 0, ..., n - 1 in random order, all orders equally likely."""
    return tf.argsort(_bits(keys, (n,)), axis=-1)
