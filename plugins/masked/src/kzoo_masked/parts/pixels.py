"""Pixels as what is to be predicted: their scale, by patch or by channel, and the way back to pictures."""

import tensorflow as tf

from kzoo.errors import OptionsError
from kzoo.patches import patchify, unpatchify
from kzoo_masked.options import PixelOptions

_GREY = 0.5  # what hidden patches are shown as
_SMALL = 1e-6  # added to the variance of a patch


def check_channels(name: str, options: PixelOptions, channels: int) -> None:
    """Raises: OptionsError if the options do not have one mean for each of so many channels."""
    if options.mean is not None and len(options.mean) != channels:
        raise OptionsError([f"{name}: mean: {len(options.mean)} values for images of {channels} channels"])


def normalised(images: tf.Tensor, options: PixelOptions) -> tf.Tensor:
    """Images in [0, 1], less the mean of each channel and divided by its deviation, where the options name these."""
    if options.mean is None or options.std is None:
        return images
    return (images - tf.constant(options.mean, images.dtype)) / tf.constant(options.std, images.dtype)


def moments(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and deviation of each patch `[B, T, n]`, by n - 1: two tensors `[B, T, 1]`."""
    mean, variance = tf.nn.moments(values, axes=[-1], keepdims=True)
    return mean, tf.sqrt(variance * (values.shape[-1] / (values.shape[-1] - 1)) + _SMALL)


def standardised(values: tf.Tensor) -> tf.Tensor:
    """Each patch `[B, T, n]` with mean 0 and unbiased variance 1; one of a single colour is 0."""
    mean, deviation = moments(values)
    return (values - mean) / deviation


def hide(images: tf.Tensor, hidden: tf.Tensor, size: int) -> tf.Tensor:
    """The images with hidden patches (bool `[B, T]`), of so many pixels, in grey."""
    grid = images.shape[1] // size, images.shape[2] // size
    return unpatchify(tf.where(hidden[..., None], tf.constant(_GREY, images.dtype), patchify(images, size)), size, grid)


def paint(
    images: tf.Tensor, hidden: tf.Tensor, values: tf.Tensor, size: int, options: PixelOptions, *, by_patch: bool
) -> tf.Tensor:
    """The images with hidden patches (bool `[B, T]`) as predicted, `[B, H, W, C]` in [0, 1].

    values: predictions for all patches, `[B, T, n]`; in `by_patch` they were standardised, and get the mean and the
    deviation of the true patches.
    """
    grid = images.shape[1] // size, images.shape[2] // size
    true = patchify(normalised(images, options), size)
    values = tf.cast(values, true.dtype)
    if by_patch:
        mean, deviation = moments(true)
        values = values * deviation + mean
    painted = unpatchify(tf.where(hidden[..., None], values, true), size, grid)
    if options.mean is not None and options.std is not None:
        painted = painted * tf.constant(options.std, painted.dtype) + tf.constant(options.mean, painted.dtype)
    return tf.clip_by_value(painted, 0.0, 1.0)
